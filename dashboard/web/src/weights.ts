// Moving weights: the preview on the page, and the request to the server.

import type { Problem, Route } from "./model";

// rebalance gives destination i the percentage w and divides the rest among
// the others in proportion to what they have, as the server will.
export function rebalance(percents: number[], i: number, w: number): number[] {
  const others = percents.map((p, j) => j === i ? 0 : p);
  let sum = others.reduce((a, b) => a + b, 0);
  if (sum === 0) {
    others.forEach((_, j) => { if (j !== i) others[j] = 1; });
    sum = others.length - 1;
  }
  const total = 100 - w;
  const out = others.map((o) => Math.floor(total * o / sum));
  const rest = others.map((o, j) => ({ j, rest: (total * o) % sum })).sort((a, b) => b.rest - a.rest);
  const left = total - out.reduce((a, b) => a + b, 0);
  for (let n = 0; n < left; n++) out[rest[n]!.j]!++;
  out[i] = w;
  return out;
}

export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super(problem.message);
  }
}

// writeWeights asks the server to write percents where the route was read.
export async function writeWeights(route: Route, percents: number[]): Promise<void> {
  const answer = await fetch("api/weights", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ route: route.id, seen: route.destinations.map((d) => d.weight), weights: percents }),
  });
  if (answer.ok) return;
  let problem: Problem = { severity: "error", code: "", message: `The server answered ${answer.status} ${answer.statusText}.` };
  try {
    problem = ((await answer.json()) as { error: Problem }).error;
  } catch {
    // No JSON: the status has to do.
  }
  throw new Refused(problem);
}
