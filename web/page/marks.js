/** Where faces are at a time of the clip: the boxes of report.json, and in between them. Pure. */

/**
 * @typedef {{time_s: number, track: number, p_fake: number, box: number[] | null, frame: number}} Score
 */

const SLACK_S = 0.02; // half a frame at 25 frames/s: a seek may end this far beside

/**
 * Scores in order of time, by person.
 * @param {Score[]} scores
 * @returns {Map<number, Score[]>}
 */
export function byTrack(scores) {
  /** @type {Map<number, Score[]>} */
  const found = new Map();
  for (const score of [...scores].sort((a, b) => a.track - b.track || a.time_s - b.time_s)) {
    const mine = found.get(score.track) ?? [];
    found.set(score.track, [...mine, score]);
  }
  return found;
}

/**
 * Who is to be marked at a time, and where, as in the overlay that dfpipe writes: between two neighbouring looks that both
 * show a person, box and score are interpolated; if only one does, the box stays for half the time between them.
 * @param {Map<number, Score[]>} tracks from `byTrack`
 * @param {number[]} looks times at which there are faces, ascending, in s
 * @param {number} time s
 * @returns {Score[]} one per person
 */
export function marksAt(tracks, looks, time) {
  const gap = usualGap(looks);
  const found = [];
  for (const scores of tracks.values()) {
    const next = scores.findIndex((score) => score.time_s > time);
    const before = next === -1 ? scores[scores.length - 1] : scores[next - 1];
    const after = next === -1 ? undefined : scores[next];
    const near = before && after && after.time_s - before.time_s <= 1.5 * gap;
    const mark = near ? between(before, after, time) : [before, after].find((score) => score && Math.abs(score.time_s - time) <= gap / 2 + SLACK_S);
    if (mark?.box) found.push(mark);
  }
  return found;
}

/**
 * The median time between two looks: frames without any face are not in report.json.
 * @param {number[]} looks
 */
export function usualGap(looks) {
  const gaps = looks.slice(1).map((time, i) => time - looks[i]).sort((a, b) => a - b);
  return gaps.length ? gaps[Math.floor(gaps.length / 2)] : 0;
}

/** @param {Score} one @param {Score} two @param {number} time @returns {Score} */
function between(one, two, time) {
  if (!one.box || !two.box) return one;
  const share = (time - one.time_s) / (two.time_s - one.time_s);
  /** @param {number} a @param {number} b */
  const mix = (a, b) => a + share * (b - a);
  const other = two.box;
  return { ...one, time_s: time, p_fake: mix(one.p_fake, two.p_fake), box: one.box.map((side, i) => mix(side, other[i])) };
}

/**
 * Where a picture lies in an element that shows it whole (object-fit: contain), in px of the element.
 * @param {number} width of the element
 * @param {number} height
 * @param {number} across of the picture as the browser shows it, upright
 * @param {number} down
 */
export function fitted(width, height, across, down) {
  const factor = Math.min(width / across, height / down);
  return { left: (width - factor * across) / 2, top: (height - factor * down) / 2, width: factor * across, height: factor * down };
}
