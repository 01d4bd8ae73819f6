/** Markup that may stand in a page as it is: made by `element` alone, which escapes everything it is handed. */
export interface Markup {
  readonly markup: string;
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

export function escapeMarkup(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] as string);
}

/** One element. Names come from code only; attribute values and string children are escaped; null attributes are left out. */
export function element(
  name: string,
  attributes: Readonly<Record<string, string | number | null>>,
  ...children: readonly (string | Markup)[]
): Markup {
  const pairs = Object.entries(attributes)
    .filter(([, value]) => value !== null)
    .map(([key, value]) => ` ${key}="${typeof value === 'number' ? round(value) : escapeMarkup(String(value))}"`)
    .join('');
  const inner = children.map((child) => (typeof child === 'string' ? escapeMarkup(child) : child.markup)).join('');
  return { markup: `<${name}${pairs}>${inner}</${name}>` };
}

/** Coordinates with two decimals: more is noise, and bytes. */
function round(value: number): string {
  return String(Math.round(value * 100) / 100);
}

/** A position along an axis as SVG percent, clamped to the axis, which may run backwards. */
export function percentAlong(value: number, low: number, high: number): string {
  const share = high !== low ? (value - low) / (high - low) : 0.5;
  return `${Math.round(Math.min(1, Math.max(0, share)) * 10000) / 100}%`;
}
