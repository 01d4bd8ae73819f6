/** Line ends and control characters as they are written in JSON: data never moves the cursor. */
export function visible(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (character) => {
    const escaped = JSON.stringify(character).slice(1, -1);
    return escaped === character ? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}` : escaped;
  });
}

/** What stays of a text for people when only its line ends and colours may do anything to the terminal. */
export function harmless(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/(\x1b\[\d{1,2}m|\n)|[^]/gu, (character, kept?: string) => kept ?? visible(character));
}
