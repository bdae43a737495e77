/** The few signs of the page, drawn here so that a verdict never rests on colour alone. */

import { svg } from "./dom.js";

/** Strokes on a field of 24 x 24. */
const PATHS = {
  alert: ["M12 3.500 22 20.500H2z", "M12 10v5", "M12 17.600v.4"],
  check: ["M12 2.500a9.500 9.500 0 1 0 0 19 9.500 9.500 0 0 0 0-19z", "m7.500 12.300 3.200 3.200 6-6.500"],
  question: [
    "M12 2.500a9.500 9.500 0 1 0 0 19 9.500 9.500 0 0 0 0-19z",
    "M9.200 9.300a2.900 2.900 0 1 1 4.300 2.500c-1 .6-1.500 1.100-1.500 2.200",
    "M12 16.800v.4",
  ],
  noface: ["M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8z", "M4.500 20.500a7.500 6 0 0 1 15 0z", "M3 3l18 18"],
  broken: ["M6 2.500h8l5 5v14H6z", "M14 2.500v5h5", "m9.500 12 5 5m0-5-5 5"],
  clock: ["M12 2.500a9.500 9.500 0 1 0 0 19 9.500 9.500 0 0 0 0-19z", "M12 7v5.300l3.500 2"],
  upload: ["M12 16V4.500", "m7 9.300 5-5 5 5", "M4 15v4.500h16V15"],
  full: ["M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5"],
};

/**
 * A sign; it says nothing to a screen reader, so a word must stand beside it.
 * @param {keyof typeof PATHS} name
 */
export function icon(name) {
  const strokes = PATHS[name].map((d) => svg("path", { d }));
  return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, ...strokes);
}
