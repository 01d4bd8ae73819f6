import { canonicalJson } from '../../src/kit/index.ts';
import type { LabelledTexts } from './labelled-texts.ts';

/** How a field of the answers behaves, found from the training rows alone. */
export type FieldForm =
  /** One of few values; `labels[row]` indexes `values`, which stand in order of first appearance. */
  | {
      readonly form: 'choice';
      readonly name: string;
      readonly values: readonly unknown[];
      readonly labels: readonly number[];
    }
  /** A piece of the text with a fixed shape, e.g. `AA-99999`; `absent` where there is none. */
  | { readonly form: 'copy'; readonly name: string; readonly shapes: readonly string[]; readonly absent: null | '' }
  | { readonly form: 'text'; readonly name: string; readonly answers: readonly unknown[] };

const mostChoices = 20;
const mostShapes = 4;

export function fieldForms(data: LabelledTexts): FieldForm[] {
  return data.names.map((name) => {
    const values = data.values[name] ?? [];
    const shapes = shapesOf(values, data.texts);
    if (shapes !== null) return { form: 'copy', name, shapes, absent: values.includes('') ? '' : null };
    const keys = values.map((value) => canonicalJson(value));
    const distinct = [...new Set(keys)];
    if (distinct.length > Math.min(mostChoices, Math.max(2, values.length / 2)))
      return { form: 'text', name, answers: values };
    return {
      form: 'choice',
      name,
      values: distinct.map((key) => values[keys.indexOf(key)]),
      labels: keys.map((key) => distinct.indexOf(key)),
    };
  });
}

/** The shapes of values that hold digits and stand in their texts word for word; null where that is not so. */
function shapesOf(values: readonly unknown[], texts: readonly string[]): string[] | null {
  const given = values.flatMap((value, row) =>
    value === null || value === '' ? [] : [{ value, text: texts[row] ?? '' }],
  );
  if (given.length === 0) return null;
  const shapes = new Set<string>();
  let copied = 0;
  for (const { value, text } of given) {
    if (typeof value !== 'string' || value.length > 64 || !/\d/.test(value)) return null;
    shapes.add(
      value
        .replace(/\p{Lu}/gu, 'A')
        .replace(/\p{Ll}/gu, 'a')
        .replace(/\d/g, '9'),
    );
    if (text.includes(value)) copied++;
  }
  const distinct = new Set(given.map(({ value }) => value)).size;
  return shapes.size <= mostShapes && copied >= 0.9 * given.length && distinct >= given.length / 2
    ? [...shapes].sort()
    : null;
}
