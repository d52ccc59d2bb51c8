// Keys belong to the terminal as soon as it is there, and again when the window is entered.
function focusTerminal() {
  const field = document.querySelector(".xterm-helper-textarea");
  if (field) field.focus();
  else setTimeout(focusTerminal, 50);
}
addEventListener("load", focusTerminal);
addEventListener("focus", focusTerminal);

// The terminal measures its characters again when the window changes, but after it has fitted itself to it by the old
// measure: then it fits itself once more.
addEventListener("resize", (event) => {
  if (event.isTrusted) setTimeout(() => dispatchEvent(new Event("resize")), 300);
});
