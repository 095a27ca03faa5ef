// A chart of power: the band between least and greatest value of each column, and the mean as a line.

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

/** Number, least, greatest and mean value of each column of a rail, or of the board. */
export class Columns {
  columns = [];

  /** Takes what is new, which may replace the last columns. */
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
  }

  /** Least and greatest value; none where there is nothing. */
  range() {
    if (!this.columns.length) return null;
    return [Math.min(...this.columns.map((c) => c[1])), Math.max(...this.columns.map((c) => c[2]))];
  }

  /** As many means. */
  points(count) {
    const each = this.most / count;
    const points = Array.from({ length: count }, () => []);
    for (const [number, , , mean] of this.columns) points[Math.min(Math.floor((number - this.oldest) / each), count - 1)].push(mean);
    const first = Math.max(points.findIndex((part) => part.length), 0);
    return points.slice(first).map((part) => (part.length ? part.reduce((a, b) => a + b) / part.length : null));
  }
}

/** A chart whose values are read by pointer or by keys. */
export class Chart {
  /** `read` is told the column that is pointed at, and its age. */
  constructor(canvas, read) {
    this.canvas = canvas;
    this.read = read;
    this.of = new Columns();
    /** The place in time that is pointed at, in columns before now. */
    this.ago = null;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    canvas.addEventListener("pointerleave", () => this.move(null));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && this.move(this.ago ?? 0));
    canvas.addEventListener("blur", () => this.move(null));
  }

  show(of) {
    this.of = of;
    this.draw();
  }

  point(x) {
    const inner = this.canvas.clientWidth - LEFT - RIGHT;
    this.move(Math.floor(this.of.most * (1 - (x - LEFT) / inner)));
  }

  key(event) {
    const step = { ArrowLeft: 1, ArrowRight: -1, PageUp: 20, PageDown: -20, Home: 1e9, End: -1e9 }[event.key];
    if (event.key === "Escape") this.move(null);
    if (!step) return;
    event.preventDefault();
    this.move((this.ago ?? 0) + step);
  }

  move(ago) {
    this.ago = ago === null ? null : Math.min(Math.max(ago, 0), this.of.most - 1);
    this.draw();
  }

  /** The nearest column that has a value, unless that is farther than a gap. */
  pointed() {
    if (this.ago === null || !this.of.columns.length) return null;
    const wanted = this.of.oldest + this.of.most - 1 - this.ago;
    const distance = (column) => Math.abs(column[0] - wanted);
    const nearest = this.of.columns.reduce((best, column) => (distance(column) < distance(best) ? column : best));
    return distance(nearest) <= Math.max(this.of.gap, this.of.most / 200) ? nearest : null;
  }

  draw() {
    const { canvas } = this;
    const width = canvas.clientWidth, height = canvas.clientHeight, dots = devicePixelRatio || 1;
    if (!width || this.of.most === undefined) return;
    canvas.width = Math.round(width * dots);
    canvas.height = Math.round(height * dots);
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(`--${name}`);
    pen.scale(dots, dots);
    pen.font = `11px ${style.fontFamily}`;
    const [least, most] = this.of.range() ?? [0, 1];
    const step = round(Math.max(most - Math.min(least, 0), 1e-3) / 3);
    const low = Math.min(0, Math.floor(least / step) * step);
    const high = Math.max(Math.ceil(most / step), 1) * step;
    const x = (number) => LEFT + ((number - this.of.oldest) / this.of.most) * (width - LEFT - RIGHT);
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
    const minutes = (this.of.most * this.of.seconds) / 60;
    for (let ago = 0; ago < minutes; ago += Math.max(1, Math.round(minutes / 5))) {
      pen.textAlign = ago ? "center" : "right";
      const at = x(this.of.oldest + this.of.most - (ago * 60) / this.of.seconds);
      pen.fillText(ago ? `−${ago} min` : "now", at, height);
    }
    this.line(pen, x, y, colour("accent"));
    const pointed = this.pointed();
    if (pointed) {
      pen.fillStyle = pen.strokeStyle = colour("text");
      pen.lineWidth = 1;
      const at = x(pointed[0] + 0.5);
      pen.beginPath();
      pen.moveTo(at, TOP);
      pen.lineTo(at, height - BOTTOM);
      pen.stroke();
      pen.beginPath();
      pen.arc(at, y(pointed[3]), 4, 0, 7);
      pen.fill();
    }
    this.read(pointed, this.ago === null ? null : this.ago * this.of.seconds);
  }

  line(pen, x, y, accent) {
    const wide = Math.max(x(1) - x(0), 1);
    pen.strokeStyle = pen.fillStyle = accent;
    pen.globalAlpha = 0.3;
    for (const [number, low, high] of this.of.columns) pen.fillRect(x(number), y(high), wide, y(low) - y(high));
    pen.globalAlpha = 1;
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    pen.beginPath();
    let before = null;
    for (const [number, , , mean] of this.of.columns) {
      const at = x(number + 0.5);
      if (before === null || number - before > this.of.gap) {
        pen.moveTo(at - 1, y(mean));
        pen.lineTo(at, y(mean));
      } else pen.lineTo(at, y(mean));
      before = number;
    }
    pen.stroke();
  }
}
