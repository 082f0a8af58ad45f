// A small live chart: the last values of one number, as an SVG.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [180, 40];
/** Values that are shown. */
const VALUES = 60;

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

const number = (value) => (Number.isInteger(value) ? value : Math.round(value * 10) / 10).toLocaleString();

/** The line through the values. Where one is not known, it has a gap. */
function line(values, top) {
  let path = "";
  let isGap = true;
  values.forEach((value, i) => {
    if (value === undefined) return void (isGap = true);
    const x = WIDTH - ((values.length - 1 - i) * WIDTH) / (VALUES - 1);
    const y = HEIGHT - 2 - (value / top) * (HEIGHT - 4);
    path += `${isGap ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
    isGap = false;
  });
  return path;
}

/**
 * @param title what the number is
 * @param everyMs how often it gets a value
 */
export function makeChart(title, everyMs) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  const now = document.createElement("strong");
  caption.append(now, ` ${title}`);
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const path = shape("path", { class: "line" });
  svg.append(path);
  figure.append(caption, svg);
  const values = [];
  const minutes = Math.round((VALUES * everyMs) / 60_000);

  return {
    element: figure,

    /** The next value; undefined if it is not known. */
    push(value) {
      values.push(value);
      if (values.length > VALUES) values.shift();
      const known = values.filter((each) => each !== undefined);
      now.textContent = value === undefined ? "–" : number(value);
      path.setAttribute("d", line(values, Math.max(1, ...known)));
      const range = known.length ? `from ${number(Math.min(...known))} to ${number(Math.max(...known))}` : "not known";
      svg.setAttribute("aria-label", `${title}, in the last ${minutes} minutes: ${range}`);
    },
  };
}
