"use strict";
(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const form = document.getElementById("controls");
  const canvas = document.getElementById("stage");
  const context = canvas.getContext("2d");
  const shown = document.getElementById("shown");
  const same = document.getElementById("same");
  const inputs = [...form.querySelectorAll("[data-axis]")];
  const sheets = data.sheets.map((source) => Object.assign(new Image(), { src: source }));
  const positions = data.axes.map((axis) => axis.base);
  const columns = Math.ceil(data.noise / 2);
  const gap = Math.max(1, Math.round(data.side / 16));
  const pitch = data.side + gap;
  canvas.width = columns * pitch - gap;
  canvas.height = Math.ceil(data.noise / columns) * pitch - gap;
  canvas.style.width = canvas.width * Math.max(1, Math.floor(640 / canvas.width)) + "px";
  let drawing = 0;

  // The order of cells is that of Plan.positions.
  const cell = () => {
    let crossed = 0, singles = 1, single = 0;
    data.axes.forEach((axis, i) => {
      const here = positions[i], count = axis.texts.length;
      if (axis.crossed) {
        crossed = crossed * count + here;
      } else {
        if (here !== axis.base) single = singles + here - (here > axis.base ? 1 : 0);
        singles += count - 1;
      }
    });
    return crossed * singles + single;
  };

  const draw = async () => {
    const mine = ++drawing;
    const perSheet = data.inRow * data.rows, index = cell();
    const sheet = sheets[Math.floor(index / perSheet)], place = index % perSheet;
    await sheet.decode();
    if (mine !== drawing) return; // another position was chosen meanwhile
    const left = (place % data.inRow) * data.noise * data.side;
    const top = Math.floor(place / data.inRow) * data.side;
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < data.noise; i++) {
      context.drawImage(
        sheet, left + i * data.side, top, data.side, data.side,
        (i % columns) * pitch, Math.floor(i / columns) * pitch, data.side, data.side,
      );
    }
    const values = data.axes.map((axis, i) => axis.name + " = " + axis.shown[positions[i]]);
    const images = data.noise === 1 ? "1 generated image" : data.noise + " generated images";
    shown.textContent = images + " with " + values.join("; ");
    canvas.setAttribute("aria-label", shown.textContent);
    const fixed = Object.entries(data.fixed).map(([name, text]) => " --set " + name + "=" + text);
    const chosen = data.axes.map((axis, i) => " --set " + axis.name + "=" + axis.texts[positions[i]]);
    const words = (data.command + chosen.join("") + fixed.join("")).split(" ");
    same.replaceChildren(...words.flatMap((word, i) => {
      const part = Object.assign(document.createElement("span"), { className: "word", textContent: word });
      return i ? [" ", part] : [part];
    }));
    canvas.dataset.positions = positions.join(",");
  };

  const update = () => {
    inputs.forEach((input, i) => {
      const axis = data.axes[i], text = axis.texts[positions[i]];
      if (input.type === "checkbox") input.checked = positions[i] === 1;
      else input.value = String(positions[i]);
      if (input.type === "range") input.setAttribute("aria-valuetext", text);
      const output = input.parentElement.querySelector("output");
      if (output) output.textContent = text;
    });
    draw();
  };

  form.addEventListener("input", (event) => {
    const i = Number(event.target.dataset.axis);
    positions[i] = event.target.type === "checkbox" ? Number(event.target.checked) : Number(event.target.value);
    if (!data.axes[i].crossed) {
      data.axes.forEach((axis, k) => { if (k !== i && !axis.crossed) positions[k] = axis.base; });
    }
    update();
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    data.axes.forEach((axis, i) => { positions[i] = axis.base; });
    update();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
})();
