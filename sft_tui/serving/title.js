// The title that the app gives to the window of its terminal becomes that of the tab. textual.js keeps its terminal to
// itself, so it is read where it arrives: the app writes it at once, so that it is never split between two messages.
const TITLE = /\x1b\]2;([^\x07\x1b]*)(?:\x07|\x1b\\)/g;
const Connection = window.WebSocket;
window.WebSocket = class extends Connection {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", ({ data }) => {
      if (!(data instanceof ArrayBuffer)) return;
      for (const [, title] of new TextDecoder().decode(data).matchAll(TITLE)) document.title = title || "sft-tui";
    });
  }
};
