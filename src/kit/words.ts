/** Lower-case words of a text: runs of letters, digits and apostrophes. */
export function wordsOf(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}']+/gu) ?? [];
}

/** Distinct word sequences of 1 to `longest` words, in order of first appearance, with their counts. */
export function wordGrams(text: string, longest: number): Map<string, number> {
  const words = wordsOf(text);
  const counts = new Map<string, number>();
  for (let length = 1; length <= longest; length++) {
    for (let start = 0; start + length <= words.length; start++) {
      const gram = words.slice(start, start + length).join(' ');
      counts.set(gram, (counts.get(gram) ?? 0) + 1);
    }
  }
  return counts;
}
