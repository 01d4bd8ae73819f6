/** Lower-case words: runs of letters and digits. */
export function words(text: string): readonly string[] {
  return (
    text
      .normalize('NFKC')
      .toLowerCase()
      .match(/[\p{L}\p{N}]+/gu) ?? []
  );
}

/** F1 of the two bags of words, in [0, 1]; two empty texts agree fully. */
export function wordOverlap(output: string, target: string): number {
  const [a, b] = [words(output), words(target)];
  if (a.length === 0 || b.length === 0) return a.length === b.length ? 1 : 0;
  const left = new Map<string, number>();
  for (const word of b) left.set(word, (left.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of a) {
    const count = left.get(word) ?? 0;
    if (count === 0) continue;
    left.set(word, count - 1);
    common++;
  }
  return (2 * common) / (a.length + b.length);
}

/**
 * Pattern of an id shape: `A` stands for a capital letter, `9` for a digit, all else for itself.
 * Shapes instead of regular expressions, because suites are data and a hostile expression never ends.
 */
export function shapePattern(shape: string): RegExp {
  const body = [...shape].map((c) =>
    c === 'A' ? '[A-Z]' : c === '9' ? '[0-9]' : c.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'),
  );
  return new RegExp(`(?<![A-Za-z0-9])${body.join('')}(?![A-Za-z0-9])`, 'g');
}
