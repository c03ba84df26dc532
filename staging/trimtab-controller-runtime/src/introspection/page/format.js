// Numbers, times and outcomes in words.

const numbers = new Intl.NumberFormat("en");

export function count(number) {
  return numbers.format(number);
}

/** A number and its noun: `1 key`, `2 keys`. */
export function many(number, one, more = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : more}`;
}

/** A duration in seconds: two units at most. */
export function duration(seconds) {
  if (seconds < 0.0000005) return "0 s";
  if (seconds < 0.0009995) return `${short(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${short(seconds * 1e3)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [size, unit, part, smaller] = UNITS.find(([size]) => whole >= size);
  const big = Math.floor(whole / size);
  const rest = Math.floor((whole % size) / part);
  return rest > 0 ? `${big} ${unit} ${rest} ${smaller}` : `${big} ${unit}`;
}

const UNITS = [
  [86400, "d", 3600, "h"],
  [3600, "h", 60, "min"],
  [60, "min", 1, "s"],
];

function short(number) {
  return number < 9.95 ? number.toFixed(1).replace(/\.0$/, "") : String(Math.round(number));
}

/** The seconds from one point in time to another. */
export function between(from, to) {
  return Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000);
}

export function ago(time, now) {
  const seconds = between(time, now);
  return seconds < 1 ? "just now" : `${duration(seconds)} ago`;
}

/** The time of day with milliseconds, and the day if it is not that of `now`. */
export function clock(time, now) {
  const date = new Date(time);
  const two = (number) => String(number).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const millis = String(date.getMilliseconds()).padStart(3, "0");
  const sameDay = date.toDateString() === new Date(now).toDateString();
  return `${sameDay ? "" : `${day} `}${text}.${millis}`;
}

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; number >= 1024 && unit < units.length - 1; unit += 1) number /= 1024;
  return `${unit === 0 || number >= 99.5 ? count(Math.round(number)) : number.toFixed(1)} ${units[unit]}`;
}

/** How a turn ended, in words and as a tone. */
export const OUTCOMES = {
  success: { label: "Success", tone: "good", mark: "check" },
  requeueAfter: { label: "Success, looks again", tone: "good", mark: "again" },
  conflict: { label: "Conflict", tone: "warn", mark: "again" },
  error: { label: "Error", tone: "bad", mark: "cross" },
  terminal: { label: "Terminal error", tone: "bad", mark: "stop" },
  panic: { label: "Panic", tone: "bad", mark: "bolt" },
  timedOut: { label: "Timed out", tone: "bad", mark: "clock" },
  cutOff: { label: "Cut off", tone: "quiet", mark: "stop" },
};

export function outcomeOf(result) {
  return OUTCOMES[result] ?? { label: result, tone: "quiet", mark: "check" };
}

/** Where a key is, in words. */
export const PLACES = {
  reconciling: "reconciling",
  settling: "waiting to see its writes",
  inHand: "in hand",
  ready: "waiting for a worker",
  backingOff: "backing off",
  delayed: "due later",
  idle: "idle",
  unknown: "not to be found in a long queue",
};

/** A key's or a controller's address within the page. */
export function controllerAddress(name) {
  return `#/controllers/${encodeURIComponent(name)}`;
}

export function keyAddress(name, key) {
  return `${controllerAddress(name)}/keys/${encodeURIComponent(key)}`;
}
