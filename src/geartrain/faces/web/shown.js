// Figures as they are read: three digits that matter, a unit, and a dash for what is not known.

export const UNKNOWN = "–";

const digits = (value) => (value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2));

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  const sign = seconds < 0 ? "−" : "";
  const size = Math.abs(seconds);
  if (size === 0) return "0 s";
  if (size < 0.9995e-6) return `${sign}${(size * 1e9).toFixed(0)} ns`;
  if (size < 0.9995e-3) return `${sign}${digits(size * 1e6)} µs`;
  if (size < 0.9995) return `${sign}${digits(size * 1e3)} ms`;
  return sign + (size < 100 ? `${digits(size)} s` : long(size));
}

/** How long ago, or how long something lives: "3 s", "4 min 10 s", "2 h 5 min". */
export function long(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function rate(hz) {
  if (hz === null || hz === undefined) return UNKNOWN;
  if (hz === 0) return "0/s";
  if (hz >= 99_950) return `${digits(hz / 1000)}k/s`;
  if (hz >= 999.5) return `${count(Math.round(hz))}/s`;
  return `${digits(hz)}/s`;
}

export const count = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, " ");

const two = (number) => String(number).padStart(2, "0");

export function clock(seconds) {
  const date = new Date(seconds * 1000);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
}

const SIGNALS = { 1: "SIGHUP", 2: "SIGINT", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM" };

/** How a process ended: by itself, or by a signal. */
export function ending(code) {
  if (code === null || code === undefined) return "nobody saw how it ended";
  return code < 0 ? `killed by ${SIGNALS[-code] ?? `signal ${-code}`}` : `exit code ${code}`;
}
