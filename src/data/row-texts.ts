import type { TrainingRow } from '../contracts/index.ts';

/** Least share of word 3-grams that near duplicates have in common. */
export const similar = 0.8;

/** A text as it is compared: case and white space say nothing. */
export function fold(text: string): string {
  return text.toLowerCase().replace(/\s+/gu, ' ').trim();
}

/** Everything that the user says in a row, in order; or the document. */
export function askedTexts(row: TrainingRow): string[] {
  if (row.kind === 'text') return [row.text];
  const messages = row.kind === 'messages' ? row.messages : row.prompt;
  return messages.flatMap(({ role, content }) => (role === 'user' ? [content] : []));
}
