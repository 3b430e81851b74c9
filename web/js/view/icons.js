// Line icons on a grid of 24, drawn for these pages; each has its own shape so that colour carries no meaning alone.

const SVG = "http://www.w3.org/2000/svg";

const PATHS = {
  roof: "M2.5 11.5c4-.6 7-3 9.5-7 2.5 4 5.5 6.4 9.5 7M5.5 11v8.500h13V11M9.5 19.500v-5h5v5",
  microphone: "M12 3.500a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0v-5a3 3 0 0 1 3-3M5.5 11.500a6.5 6.5 0 0 0 13 0M12 18v3",
  microphone_off: "M9 9v2.500a3 3 0 0 0 4.6 2.500M15 11V6.500a3 3 0 0 0-5.8-1M5.5 11.500a6.5 6.5 0 0 0 9.8 5.600M18.5 11.500a6.4 6.4 0 0 1-.8 3.100M12 18v3M3.5 3.500l17 17",
  camera: "M3.5 7.500a2 2 0 0 1 2-2h8a2 2 0 0 1 2 2v9a2 2 0 0 1-2 2h-8a2 2 0 0 1-2-2zM15.5 10.500l5-3v9l-5-3",
  camera_off: "M8 5.500h5.500a2 2 0 0 1 2 2V13M15.5 16.500a2 2 0 0 1-2 2h-8a2 2 0 0 1-2-2v-9a2 2 0 0 1 1-1.700M15.5 10.500l5-3v9l-3-1.800M3.5 3.500l17 17",
  screen: "M3.5 5.500h17v11h-17zM9 20h6M12 16.500V20M12 13.500v-5M9.5 10.500L12 8l2.5 2.5",
  chat: "M4 5.500h16v11h-9l-4.5 3.500v-3.500H4zM8 9.500h8M8 12.500h5",
  people: "M9 11.500a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7M2.5 19.500c.4-3.6 2.9-5.5 6.5-5.500s6.1 1.9 6.5 5.500M16 4.800a3.5 3.5 0 0 1 0 6.400M17.5 14.300c2.3.7 3.7 2.5 4 5.2",
  leave: "M14.5 8V5a1.5 1.5 0 0 0-1.5-1.500H6A1.5 1.5 0 0 0 4.5 5v14A1.5 1.5 0 0 0 6 20.500h7a1.5 1.5 0 0 0 1.5-1.500v-3M9.5 12h11M17 8.500l3.5 3.5-3.5 3.5",
  close: "M6 6l12 12M18 6L6 18",
  previous: "M14.5 5.500L8 12l6.5 6.5",
  next: "M9.5 5.500L16 12l-6.5 6.5",
  large: "M14 4.500h5.500V10M10 19.500H4.500V14M19.5 4.500L13.5 10.500M4.5 19.500l6-6",
  small: "M19.5 10H14V4.500M4.5 14H10v5.500M14 10l6-6M10 14l-6 6",
  send: "M4 12l16-7.5-5 15.5-3.5-6.500zM11.5 13.500L20 4.5",
  copy: "M8.5 8.500h11v11h-11zM15.5 8.500v-4h-11v11h4",
  download: "M12 4v11M7.5 11l4.5 4.5 4.5-4.500M4.5 19.500h15",
  play: "M7.5 4.800v14.400L19 12z",
  info: "M12 20.500a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17M12 11v5.500M12 7.700v.1",
  warning: "M12 4L2.8 19.500h18.400zM12 10v4.500M12 17v.1",
  check: "M5 12.500l4.5 4.500L19 7.5",
  sound: "M4 9.500v5h3.500L12 18.500v-13L7.5 9.500zM15.5 9a4 4 0 0 1 0 6M18 6.500a8 8 0 0 1 0 11",
  plus: "M12 5v14M5 12h14",
  recording: "M12 20.500a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17M12 15.500a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z",
  recording_off: "M6 6a8.5 8.5 0 0 0 12 12M8.7 4.200A8.5 8.5 0 0 1 19.8 15.300M3.5 3.500l17 17",
  captures: "M3.5 7.500h4l1.5-2.500h6l1.5 2.500h4v11h-17zM12 16a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z",
  captures_off: "M7 7.500H3.500v11h14M9 5h6l1.5 2.500h4v9M9 10.700a3.5 3.5 0 0 0 4.8 4.800M3.5 3.500l17 17",
  clock: "M12 20.500a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17M12 7.500V12l3 2",
};

/** @typedef {keyof typeof PATHS} IconName */

/**
 * An icon that screen readers skip: the words stand beside it or in its button's label.
 *
 * @param {IconName} name
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.dataset.icon = name;
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/**
 * Three bars of a connection.
 *
 * @returns {SVGSVGElement}
 */
export function bars() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon bars");
  svg.setAttribute("aria-hidden", "true");
  for (const d of ["M5 18.500v-4", "M12 18.500v-8.5", "M19 18.500V5.5"]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

/**
 * Draws another icon in place of the one shown, if it differs.
 *
 * @param {Element} holder
 * @param {IconName} name
 */
export function setIcon(holder, name) {
  const shown = holder.querySelector(":scope > .icon");
  if (shown instanceof SVGSVGElement && shown.dataset.icon === name) return;
  if (shown) shown.replaceWith(icon(name));
  else holder.prepend(icon(name));
}
