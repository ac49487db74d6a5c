// Small drawings of live figures: a sparkline with its threshold, a tide staff beside it, and the water of the header.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 200;
const HEIGHT = 48;

// A threshold far above the data would press the line flat; below this share of it the staff alone shows the distance.
const THRESHOLD_IN_VIEW_FROM = 0.3;

function shape(parent, name, className) {
  const node = document.createElementNS(SVG, name);
  node.setAttribute("class", className);
  parent.append(node);
  return node;
}

/** The last `capacity` samples as a line over a filled area; a missing sample (null) leaves a gap. */
export class Sparkline {
  #capacity;
  #samples = [];
  #area;
  #line;
  #threshold;
  #dot;
  #floor;

  /**
   * @param {HTMLElement} host is filled; `floor` is the smallest top of the scale, so that noise near zero stays small.
   */
  constructor(host, { capacity, floor }) {
    this.#capacity = capacity;
    this.#floor = floor;
    const svg = shape(host, "svg", "sparkline");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    this.#area = shape(svg, "path", "sparkline-area");
    this.#threshold = shape(svg, "line", "sparkline-threshold");
    this.#threshold.setAttribute("x1", "0");
    this.#threshold.setAttribute("x2", String(WIDTH));
    this.#line = shape(svg, "path", "sparkline-line");
    this.#dot = shape(svg, "line", "sparkline-dot");
  }

  /**
   * @param {number | null} value null when it is not known.
   * @param {{threshold: number, limit: number} | null} scale near its threshold the drawing takes the scale of the
   *   staff beside it, so that the two marks are one line; null when the figure has no threshold.
   */
  push(value, scale) {
    this.#samples.push(value);
    if (this.#samples.length > this.#capacity) this.#samples.shift();
    this.#draw(scale);
  }

  #draw(scale) {
    const known = this.#samples.filter((value) => value !== null);
    const highest = Math.max(...known, 0);
    const isThresholdInView = scale !== null && highest >= scale.threshold * THRESHOLD_IN_VIEW_FROM;
    const top = isThresholdInView ? Math.max(highest, scale.limit) : Math.max(highest, this.#floor) * 1.15;
    const step = WIDTH / (this.#capacity - 1);
    const start = WIDTH - (this.#samples.length - 1) * step;
    const y = (value) => HEIGHT * (1 - value / top);
    const points = this.#samples.map((value, index) => (value === null ? null : [start + index * step, y(value)]));

    this.#line.setAttribute("d", runs(points).map(lineOf).join(""));
    this.#area.setAttribute("d", runs(points).map(areaOf).join(""));
    this.#threshold.setAttribute("visibility", isThresholdInView ? "visible" : "hidden");
    if (isThresholdInView) {
      this.#threshold.setAttribute("y1", y(scale.threshold).toFixed(1));
      this.#threshold.setAttribute("y2", y(scale.threshold).toFixed(1));
    }
    const last = points.at(-1);
    this.#dot.setAttribute("visibility", last ? "visible" : "hidden");
    if (!last) return;
    // A line of no length with round caps is a dot that stays round while the drawing is stretched.
    for (const end of ["1", "2"]) {
      this.#dot.setAttribute(`x${end}`, (last[0] - 1.5).toFixed(1));
      this.#dot.setAttribute(`y${end}`, last[1].toFixed(1));
    }
  }
}

function runs(points) {
  const found = [[]];
  for (const point of points) {
    if (point) found.at(-1).push(point);
    else if (found.at(-1).length > 0) found.push([]);
  }
  return found.filter((run) => run.length > 0);
}

const pair = ([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`;
const lineOf = (run) => `M${run.map(pair).join("L")}`;
const areaOf = (run) => `${lineOf(run)}L${pair([run.at(-1)[0], HEIGHT])}L${pair([run[0][0], HEIGHT])}Z`;

/** A tide staff: how high a figure stands between nothing and its limit, with a mark at the threshold. */
export class Staff {
  #host;

  constructor(host, label) {
    this.#host = host;
    host.setAttribute("role", "meter");
    host.setAttribute("aria-label", label);
    host.setAttribute("aria-valuemin", "0");
  }

  show(value, { limit, threshold, text }) {
    this.#host.style.setProperty("--level", String(Math.min(1, value / limit)));
    this.#host.style.setProperty("--mark", String(Math.min(1, threshold / limit)));
    this.#host.setAttribute("aria-valuenow", String(value));
    this.#host.setAttribute("aria-valuemax", String(limit));
    this.#host.setAttribute("aria-valuetext", text);
  }
}

const CALM = 0.02;
const RATE_OF_FULL_TIDE = 200; // messages a second

/** The water line of the header: still when nothing moves, with waves that grow with the messages a second. */
export class Tide {
  #near;
  #far;
  #target = 0;
  #height = 0;
  #time = 0;
  #lastFrameAt = 0;
  #isRunning = false;
  #wantsStillness = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(svg) {
    svg.setAttribute("viewBox", "0 0 600 40");
    svg.setAttribute("preserveAspectRatio", "none");
    this.#far = shape(svg, "path", "tide-far");
    this.#near = shape(svg, "path", "tide-near");
    this.#draw();
  }

  /** @param {number} rate messages a second; 0 lets the water come to rest. */
  set rate(rate) {
    this.#target = rate <= 0 ? 0 : Math.min(1, 0.15 + Math.log1p(rate) / Math.log1p(RATE_OF_FULL_TIDE));
    this.#run();
  }

  #run() {
    if (this.#wantsStillness.matches) {
      this.#height = this.#target;
      this.#draw();
    } else if (!this.#isRunning) {
      this.#isRunning = true;
      this.#lastFrameAt = performance.now();
      requestAnimationFrame((at) => this.#frame(at));
    }
  }

  #frame(at) {
    const seconds = Math.min(0.1, Math.max(0, (at - this.#lastFrameAt) / 1000));
    this.#lastFrameAt = at;
    this.#height += (this.#target - this.#height) * Math.min(1, seconds * 0.9);
    this.#time += seconds;
    if (this.#target === 0 && this.#height < CALM) {
      this.#height = 0;
      this.#isRunning = false;
    }
    this.#draw();
    if (this.#isRunning) requestAnimationFrame((next) => this.#frame(next));
  }

  #draw() {
    this.#near.setAttribute("d", this.#wave(22, 7, 0.9, 0));
    this.#far.setAttribute("d", this.#wave(17, 9, 0.55, 1.7));
  }

  #wave(level, reach, speed, shift) {
    let path = "M0 40";
    for (let x = 0; x <= 600; x += 12) {
      const long = Math.sin(x / 62 + this.#time * speed + shift);
      const swell = long + 0.5 * Math.sin(x / 27 - this.#time * speed * 1.3 + shift);
      path += `L${x} ${(level - swell * reach * this.#height * 0.66).toFixed(2)}`;
    }
    return `${path}L600 40Z`;
  }
}
