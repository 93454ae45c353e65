// One photo on the page. Names and labels are set as text, never as markup.

import { percent, photoError, serverError } from "./words.js";

const SHOWN_CLASSES = 6;

const part = (node, selector) => node.querySelector(selector);

export class Photo {
  constructor(file) {
    this.file = file;
    this.name = file.name;
    this.state = "waiting";
    this.result = null;
    this.lacksMap = false;
    this.mayTryAgain = false;
    this.node = document.getElementById("card").content.cloneNode(true).firstElementChild;
    part(this.node, ".name").textContent = file.name;
    part(this.node, ".name").title = file.name;
    this.showThumbnail();
    this.wait();
  }

  showThumbnail() {
    const image = part(this.node, "img");
    const url = URL.createObjectURL(this.file);
    image.addEventListener("load", () => URL.revokeObjectURL(url));
    image.addEventListener("error", () => {
      URL.revokeObjectURL(url);
      image.remove();
    });
    image.src = url;
  }

  wait() {
    this.show("waiting", "Waiting …");
  }

  look() {
    this.show("looking", "Looking …");
  }

  answer(result, colours) {
    this.result = result;
    if (result.status !== "ok") {
      this.refuse(photoError(result.error ?? {}));
      return;
    }
    const sure = percent(result.confidence);
    if (result.abstained) this.show("unsure", "Not sure", "", `Best guess: ${result.label}, ${sure}`);
    else this.show("ok", result.label, `${sure} sure`);
    this.showBars(Object.entries(result.probabilities), colours);
    this.showMap(result);
  }

  /** Says why the photo has no label; `mayTryAgain` where that is not the photo's fault. */
  refuse(words, { mayTryAgain = false } = {}) {
    this.show("error", mayTryAgain ? "No answer" : "Cannot be used", "", words);
    this.mayTryAgain = mayTryAgain;
  }

  refuseBecause(refusal) {
    const own = refusal.status === 413 || refusal.status === 415;
    this.refuse(serverError(refusal), { mayTryAgain: !own });
  }

  show(state, verdict, sure = "", reason = "") {
    this.state = state;
    this.mayTryAgain = this.lacksMap = false;
    this.node.dataset.state = state;
    part(this.node, ".verdict strong").textContent = verdict;
    part(this.node, ".sure").textContent = sure;
    part(this.node, ".reason").textContent = reason;
    part(this.node, ".reason").hidden = reason === "";
  }

  showMap({ label, map_png: png }) {
    part(this.node, ".map")?.remove();
    this.lacksMap = png === undefined;
    if (this.lacksMap) return;
    const image = document.createElement("img");
    image.className = "map";
    image.alt = `${this.name}: what speaks for ${label}, in warm colours`;
    image.src = `data:image/png;base64,${png}`;
    part(this.node, ".photo").append(image);
  }

  showBars(shares, colours) {
    shares.sort((a, b) => b[1] - a[1]);
    const bars = shares.map(([name, share]) => buildBar(name, share, colours.get(name)));
    const rest = bars.splice(SHOWN_CLASSES);
    part(this.node, ".answer > .bars").replaceChildren(...bars);
    part(this.node, ".answer > .bars").hidden = false;
    part(this.node, "details").hidden = rest.length === 0;
    part(this.node, "summary").textContent = `${rest.length} more`;
    part(this.node, "details .bars").replaceChildren(...rest);
  }
}

function buildBar(name, share, colour) {
  const node = document.getElementById("bar").content.cloneNode(true).firstElementChild;
  part(node, ".class").textContent = name;
  part(node, ".class").title = name;
  part(node, ".share").textContent = percent(share);
  const fill = part(node, ".track > span");
  // Through the object model: the content policy lets no style attribute pass.
  fill.style.inlineSize = `${100 * share}%`;
  if (colour !== undefined) fill.style.setProperty("--hue", colour);
  return node;
}
