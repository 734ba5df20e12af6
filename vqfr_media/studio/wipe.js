// The two pictures, the divider between them, and looking closer at a face.

export class Wipe {
  constructor(width, height) {
    this.stage = document.getElementById("stage");
    this.before = document.getElementById("before");
    this.after = document.getElementById("after");
    this.slider = document.getElementById("wipe");
    this.width = width;
    this.height = height;
    this.closer = null;
    this.stage.style.aspectRatio = `${width} / ${height}`;
    // Tall pictures fit the window.
    this.stage.style.maxWidth = `calc(70vh * ${width / height})`;
    this.slider.addEventListener("input", () => this.move());
    this.move();
  }

  move() {
    const share = Number(this.slider.value);
    this.stage.style.setProperty("--wipe", `${share}%`);
    this.slider.setAttribute("aria-valuetext", `${share} percent before, ${100 - share} percent after`);
  }

  // Shows the middle of a box in coordinates of the picture, or all of the picture for null.
  look(box) {
    this.closer = box;
    let [scale, left, top] = [1, 0, 0];
    if (box) {
      const [x0, y0, x1, y1] = box;
      const share = Math.max((x1 - x0) / this.width, (y1 - y0) / this.height);
      scale = Math.min(16, Math.max(1, 0.6 / share));
      const edge = (middle, length) =>
        Math.min(0, Math.max(100 - 100 * scale, 50 - 100 * scale * (middle / length)));
      left = edge((x0 + x1) / 2, this.width);
      top = edge((y0 + y1) / 2, this.height);
    }
    this.stage.style.setProperty("--scale", String(scale));
    this.stage.style.setProperty("--left", `${left}%`);
    this.stage.style.setProperty("--top", `${top}%`);
  }

  // Takes the address of a picture; answers when it is shown.
  async show(image, address, words) {
    const old = image.src;
    image.src = address;
    image.alt = words;
    await image.decode();
    if (old.startsWith("blob:")) URL.revokeObjectURL(old);
  }

  hideAfter() {
    this.after.parentElement.classList.remove("ready");
  }

  showAfter() {
    this.after.parentElement.classList.add("ready");
  }
}
