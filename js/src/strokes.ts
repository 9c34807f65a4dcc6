/** A brush stroke has far more positions than its shape needs. */

export type Path = [x: number, y: number][];

function distance(p: Path[number], a: Path[number], b: Path[number]): number {
  const dx = b[0] - a[0];
  const dy = b[1] - a[1];
  const length = dx * dx + dy * dy;
  const along = length === 0 ? 0 : ((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / length;
  const t = Math.min(1, Math.max(0, along));
  return Math.hypot(p[0] - a[0] - t * dx, p[1] - a[1] - t * dy);
}

/** Ramer (1972), Douglas and Peucker (1973), with a stack of its own: a stroke may have thousands of positions. */
function reduce(path: Path, tolerance: number): Path {
  const keep = new Uint8Array(path.length);
  keep[0] = 1;
  keep[path.length - 1] = 1;
  const stack: [number, number][] = [[0, path.length - 1]];
  for (let range = stack.pop(); range !== undefined; range = stack.pop()) {
    const [from, to] = range;
    let farthest = -1;
    let most = tolerance;
    for (let index = from + 1; index < to; index++) {
      const far = distance(path[index] as Path[number], path[from] as Path[number], path[to] as Path[number]);
      if (far > most) {
        most = far;
        farthest = index;
      }
    }
    if (farthest < 0) continue;
    keep[farthest] = 1;
    stack.push([from, farthest], [farthest, to]);
  }
  return path.filter((_, index) => keep[index] === 1);
}

/** At most `limit` positions; the tolerance, in image pixels, grows until that holds. */
export function simplify(path: Path, tolerance: number, limit = 400): Path {
  let result = path.length > 2 ? reduce(path, tolerance) : path;
  for (let wider = tolerance * 2; result.length > limit; wider *= 2) result = reduce(path, wider);
  return result.map(([x, y]) => [Math.round(x * 100) / 100, Math.round(y * 100) / 100]);
}
