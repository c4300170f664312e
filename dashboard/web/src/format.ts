// Numbers and times with their units.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const count = (n: number): string => whole.format(n);
export const percent = (n: number): string => `${tenth.format(n)} %`;
export const rate = (n: number): string => n < 10 ? tenth.format(n) : whole.format(n);

// ms shows a duration in milliseconds, long ones in seconds.
export function ms(n: number): string {
  if (n >= 10_000) return `${whole.format(n / 1000)} s`;
  if (n >= 1000) return `${tenth.format(n / 1000)} s`;
  return n < 10 ? `${tenth.format(n)} ms` : `${whole.format(n)} ms`;
}

export const clock = (seconds: number): string => clockFormat.format(seconds * 1000);

// ago shows how long something is past.
export function ago(seconds: number): string {
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

export const plural = (n: number, one: string, many = one + "s"): string => `${count(n)} ${n === 1 ? one : many}`;
