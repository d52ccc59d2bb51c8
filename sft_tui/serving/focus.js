// Keys belong to the terminal as soon as it is there, and again when the window is entered.
function focusTerminal() {
  const field = document.querySelector(".xterm-helper-textarea");
  if (field) field.focus();
  else setTimeout(focusTerminal, 50);
}
addEventListener("load", focusTerminal);
addEventListener("focus", focusTerminal);
