import type { ExampleRun, Model, TrainEvent } from '../contracts/index.ts';
import type { Example } from './examples.ts';
import { renderedRoles, type TokenSequence } from './sequence.ts';

type ExampleEvent = Extract<TrainEvent, { readonly type: 'example' }>;

/** Longest text of a special token that is looked for. */
const longestSpecial = 40;

/** The first, the middle and the last example as they are learned; of a pair both answers. */
export function shownExamples(model: Model, examples: readonly Example[]): ExampleEvent[] {
  const places = [...new Set([0, Math.floor(examples.length / 2), examples.length - 1])];
  const specials = specialTexts(model);
  return places.flatMap((place) => {
    const example = examples[place];
    if (example === undefined) return [];
    const pair = example.sequences.length > 1;
    return example.sequences.map((sequence, index): ExampleEvent => ({
      type: 'example',
      id: pair ? `${example.id} (${index === 0 ? 'chosen' : 'rejected'})` : example.id,
      runs: runsOf(model, sequence, specials),
    }));
  });
}

/** What gives the runs of sequences, one after another, with special tokens as they are written. */
export function runsReader(
  model: Model,
): (sequence: Pick<TokenSequence, 'tokens' | 'weights'>) => readonly ExampleRun[] {
  const specials = specialTexts(model);
  return (sequence) => runsOf(model, sequence, specials);
}

/**
 * A sequence in runs of tokens that are trained or only read. Texts of the runs together are the text of the sequence,
 * with special tokens as they are written: one whose text is not known stands as `<#id>`.
 */
function runsOf(
  model: Model,
  { tokens, weights }: Pick<TokenSequence, 'tokens' | 'weights'>,
  specials: ReadonlyMap<number, string>,
): ExampleRun[] {
  const runs: ExampleRun[] = [];
  const isSpecial = (id: number): boolean => specials.has(id) || isSilent(model, id);
  for (let start = 0; start < tokens.length;) {
    const trained = (weights[start] ?? 0) > 0;
    const special = isSpecial(tokens[start] ?? 0);
    let end = start + 1;
    while (!special && end < tokens.length && (weights[end] ?? 0) > 0 === trained && !isSpecial(tokens[end] ?? 0))
      end++;
    const id = tokens[start] ?? 0;
    const text = special ? (specials.get(id) ?? `<#${id}>`) : textBetween(model, tokens, start, end, isSpecial);
    const last = runs.at(-1);
    if (last?.trained === trained) runs[runs.length - 1] = { text: last.text + text, trained };
    else runs.push({ text, trained });
    start = end;
  }
  return runs;
}

/** Told from what stands before it, because a decoder treats the start of a text differently. */
function textBetween(
  model: Model,
  tokens: Int32Array,
  start: number,
  end: number,
  isSpecial: (id: number) => boolean,
): string {
  let from = start;
  while (from > 0 && !isSpecial(tokens[from - 1] ?? 0)) from--;
  return model
    .detokenize([...tokens.subarray(from, end)])
    .slice(from === start ? 0 : model.detokenize([...tokens.subarray(from, start)]).length);
}

/** Whether a decoder leaves a token out. Three times: it may strip one space at the start of a text. */
function isSilent(model: Model, id: number): boolean {
  return model.detokenize([id, id, id]) === '';
}

/** Texts of the special tokens that the template writes: those pieces of what it renders that are one silent token. */
function specialTexts(model: Model): ReadonlyMap<number, string> {
  // Templates may refuse a system message.
  const rendered =
    renderedRoles(model, ['system', 'user', 'assistant'], true) ??
    renderedRoles(model, ['user', 'assistant'], true) ??
    '';
  const wanted = new Set(model.tokenize(rendered).filter((id) => isSilent(model, id)));
  const found = new Map<number, string>();
  for (let start = 0; start < rendered.length && found.size < wanted.size; start++) {
    for (let length = 1; length <= longestSpecial && start + length <= rendered.length; length++) {
      const text = rendered.slice(start, start + length);
      const [id, ...others] = model.tokenize(text);
      if (id === undefined || others.length > 0 || !wanted.has(id) || found.has(id)) continue;
      found.set(id, text);
      break;
    }
  }
  return found;
}
