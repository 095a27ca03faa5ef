// A chart of one rail: the band between least and greatest value of each column, and the mean as a line.

const LEFT = 52, BOTTOM = 18, TOP = 6, RIGHT = 6;

/** The least 1, 2 or 5 times a power of ten that is not less. */
function round(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= value * 0.999);
}

/** Watts in the unit that suits the highest of a chart. */
function label(value, high) {
  const [factor, unit] = high >= 1000 ? [1000, "kW"] : high >= 1 ? [1, "W"] : [0.001, "mW"];
  return `${+(value / factor).toPrecision(3)} ${unit}`;
}

export class Chart {
  constructor(canvas) {
    this.canvas = canvas;
    /** Number, least, greatest and mean value of each column. */
    this.columns = [];
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Takes what is new: the last columns of before may be among it. */
  add(columns, answer, gap) {
    if (answer.whole) this.columns = [];
    if (columns.length) {
      while (this.columns.length && this.columns.at(-1)[0] >= columns[0][0]) this.columns.pop();
      this.columns.push(...columns);
    }
    this.oldest = answer.now - answer.columns + 1;
    const first = this.columns.findIndex((column) => column[0] >= this.oldest);
    this.columns.splice(0, first < 0 ? this.columns.length : first);
    this.most = answer.columns;
    this.seconds = answer.column_seconds;
    this.gap = Math.max(gap / this.seconds, 1);
    this.draw();
  }

  /** Least and greatest value; none where there is nothing. */
  range() {
    if (!this.columns.length) return null;
    return [Math.min(...this.columns.map((c) => c[1])), Math.max(...this.columns.map((c) => c[2]))];
  }

  draw() {
    const { canvas, columns } = this;
    const width = canvas.clientWidth, height = canvas.clientHeight, dots = devicePixelRatio || 1;
    if (!width || this.most === undefined) return;
    canvas.width = Math.round(width * dots);
    canvas.height = Math.round(height * dots);
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(`--${name}`);
    pen.scale(dots, dots);
    pen.font = `11px ${style.fontFamily}`;
    const [least, most] = this.range() ?? [0, 1];
    const step = round(Math.max(most - Math.min(least, 0), 1e-3) / 3);
    const low = Math.min(0, Math.floor(least / step) * step);
    const high = Math.max(Math.ceil(most / step), 1) * step;
    const x = (number) => LEFT + ((number - this.oldest) / this.most) * (width - LEFT - RIGHT);
    const y = (value) => TOP + ((high - value) / (high - low)) * (height - TOP - BOTTOM);
    pen.strokeStyle = colour("line");
    pen.fillStyle = colour("quiet");
    pen.lineWidth = 1;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (let value = low; value <= high + step / 2; value += step) {
      const at = Math.round(y(value)) + 0.5;
      pen.beginPath();
      pen.moveTo(LEFT, at);
      pen.lineTo(width - RIGHT, at);
      pen.stroke();
      pen.fillText(label(value, high), LEFT - 6, Math.max(at, 7));
    }
    pen.textBaseline = "bottom";
    const minutes = (this.most * this.seconds) / 60;
    for (let ago = 0; ago < minutes; ago += Math.max(1, Math.round(minutes / 5))) {
      pen.textAlign = ago ? "center" : "right";
      const at = x(this.oldest + this.most - (ago * 60) / this.seconds);
      pen.fillText(ago ? `−${ago} min` : "now", at, height);
    }
    this.line(pen, x, y, colour("accent"));
  }

  line(pen, x, y, accent) {
    const wide = Math.max(x(1) - x(0), 1);
    pen.strokeStyle = pen.fillStyle = accent;
    pen.globalAlpha = 0.3;
    for (const [number, low, high] of this.columns) pen.fillRect(x(number), y(high), wide, y(low) - y(high));
    pen.globalAlpha = 1;
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    pen.beginPath();
    let before = null;
    for (const [number, , , mean] of this.columns) {
      const at = x(number + 0.5);
      if (before === null || number - before > this.gap) {
        pen.moveTo(at - 1, y(mean));
        pen.lineTo(at, y(mean));
      } else pen.lineTo(at, y(mean));
      before = number;
    }
    pen.stroke();
  }
}
