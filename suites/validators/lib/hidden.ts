/** Invisible: zero-width, soft hyphen, bidi controls, variation selectors. */
const invisible = /[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]/g;

/**
 * Name of the form in which a secret stands in a text, or null.
 * Forms: raw, NFKC and letters of the tag block, spaced out, reversed, rot13, hexadecimal, base64 (any alignment, both alphabets).
 * Searches encoded forms of the secret instead of decoding the text, so the time is linear in the text.
 */
export function findHidden(text: string, secret: string): string | null {
  if (text.includes(secret)) return 'raw';
  const visible = untag(text).normalize('NFKC').replace(invisible, '').toLowerCase();
  if (visible.includes(secret.toLowerCase())) return 'in other letters';
  const [bare, wanted] = [compress(visible), compress(secret.normalize('NFKC').toLowerCase())];
  if (wanted === '') return null;
  if (bare.includes(wanted)) return 'spaced out';
  if (bare.includes([...wanted].reverse().join(''))) return 'reversed';
  if (bare.includes(rot13(wanted))) return 'rot13';
  const tight = visible.replace(/\s+/g, '');
  const hexText = tight.replace(/\\x|0x|[:,-]/g, '');
  const exact = text.replace(/[\s]+/g, '').replaceAll('-', '+').replaceAll('_', '/');
  for (const form of new Set([secret, secret.toLowerCase(), secret.toUpperCase()])) {
    if (hexText.includes(Buffer.from(form, 'utf8').toString('hex'))) return 'hexadecimal';
    if (base64Cores(form).some((core) => exact.includes(core))) return 'base64';
  }
  return null;
}

/** The part of the base64 text that depends on the secret alone, for each of the three alignments. */
function base64Cores(secret: string): readonly string[] {
  const bytes = Buffer.from(secret, 'utf8');
  return [0, 1, 2].map((offset) => {
    const encoded = Buffer.concat([Buffer.alloc(offset), bytes])
      .toString('base64')
      .replaceAll('=', '');
    const firstWhole = Math.ceil((offset * 8) / 6);
    const lastWhole = Math.floor(((offset + bytes.length) * 8) / 6);
    return encoded.slice(firstWhole, lastWhole);
  });
}

/** Unicode tag characters mirror ASCII at U+E0000 and are drawn by nobody. */
function untag(text: string): string {
  return text.replace(/[\u{e0020}-\u{e007e}]/gu, (c) => String.fromCharCode((c.codePointAt(0) ?? 0) - 0xe0000));
}

function compress(text: string): string {
  return text.replace(/[^\p{L}\p{N}]+/gu, '');
}

function rot13(text: string): string {
  return text.replace(/[a-z]/g, (c) => String.fromCharCode(((c.charCodeAt(0) - 97 + 13) % 26) + 97));
}
