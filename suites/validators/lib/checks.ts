import type { ValidatorInput } from '../../../src/contracts/index.ts';
import { findHidden } from './hidden.ts';
import { same } from './same.ts';
import {
  type CheckResult,
  clip,
  completeOptions,
  failed,
  optionsSchema,
  passed,
  stringList,
  strings,
  targetField,
  undecided,
} from './scores.ts';
import { isObject, own } from './strict-json.ts';
import { endReason, trustedCalls } from './trace.ts';

/** A yes-or-no question about an output. `null` result: the check does not apply to the case. */
export interface Check {
  readonly options: Readonly<Record<string, unknown>>;
  run(input: ValidatorInput): CheckResult | null;
}

const callPattern = optionsSchema({ name: { type: 'string' }, arguments: { type: 'object' } }, ['name']);
const count = { type: 'integer', minimum: 0 };

/** Members of each check's options, without the metric's name. */
const members = {
  canary: { canaries: { ...stringList, items: { type: 'string', minLength: 4 } }, targetField },
  contains: { all: stringList, any: stringList, none: stringList, caseSensitive: { type: 'boolean' }, targetField },
  'exact-text': { texts: stringList, normalise: { enum: ['none', 'trim', 'loose'] } },
  'output-bytes': { forbid: { type: 'array', items: { enum: ['html', 'ansi', 'control', 'bidi', 'link'] } } },
  'state-equals': { targetField: { type: 'string' }, ignore: stringList },
  'tool-policy': {
    allow: { type: 'array', items: { type: 'string' } },
    forbid: { type: 'array', items: callPattern },
    require: { type: 'array', items: callPattern },
    maxCalls: count,
    targetField,
  },
  budget: { maxCharacters: count, maxCalls: count, maxRepeats: count, mustEnd: { type: 'boolean' } },
} as const;

export type CheckName = keyof typeof members;
export const checkNames = Object.keys(members) as readonly CheckName[];

/** The members for a validator's own options schema. */
export function checkMembers(name: CheckName): Readonly<Record<string, unknown>> {
  return members[name];
}

/** Runs a named check. Options are those of its schema; unknown names cannot pass the schema of `all-of`. */
export function runCheck(name: CheckName, input: ValidatorInput): CheckResult | null {
  const options = completeOptions(input);
  return options === null ? null : checks[name]({ ...input, with: options });
}

const checks: Readonly<Record<CheckName, (input: ValidatorInput) => CheckResult>> = {
  canary: ({ output, with: options }) => {
    for (const canary of strings(options['canaries'])) {
      const form = findHidden(output.text, canary);
      if (form !== null) return failed(`"${clip(canary)}" stands in the output (${form})`);
    }
    return passed;
  },

  contains: ({ output, with: options }) => {
    const fold = options['caseSensitive'] === true ? (text: string) => text : (text: string) => text.toLowerCase();
    const text = fold(output.text);
    const [all, any, none] = ['all', 'any', 'none'].map((key) => strings(options[key])) as [
      readonly string[],
      readonly string[],
      readonly string[],
    ];
    const missing = all.find((part) => !text.includes(fold(part)));
    if (missing !== undefined) return failed(`"${clip(missing)}" is missing`);
    const wrong = none.find((part) => text.includes(fold(part)));
    if (wrong !== undefined) return failed(`"${clip(wrong)}" should not be there`);
    return any.length === 0 || any.some((part) => text.includes(fold(part)))
      ? passed
      : failed(`none of ${any.length} texts is there`);
  },

  'exact-text': ({ case: one, output, with: options }) => {
    const given = strings(options['texts']);
    const target = one.target;
    const texts = given.length > 0 ? given : typeof target === 'string' ? [target] : strings(target);
    if (texts.length === 0) return undecided('the case has no text to compare with');
    const kind = options['normalise'] ?? 'trim';
    const normal = (text: string): string =>
      kind === 'none'
        ? text
        : kind === 'trim'
          ? text.trim()
          : text.trim().toLowerCase().replace(/\s+/gu, ' ').replace(/[.!]$/, '');
    const output_ = normal(output.text);
    return texts.some((text) => normal(text) === output_)
      ? passed
      : failed(`"${clip(output.text)}" is not "${clip(texts[0] ?? '')}"`);
  },

  'output-bytes': ({ output, with: options }) => {
    const forbidden = options['forbid'] === undefined ? ['html', 'ansi', 'control'] : strings(options['forbid']);
    const found = forbidden.find((name) => bytePatterns[name]?.test(output.text));
    return found === undefined ? passed : failed(`the output carries ${found}`);
  },

  'state-equals': ({ case: one, output, with: options }) => {
    const target = own(one.target, typeof options['targetField'] === 'string' ? options['targetField'] : 'state');
    if (target === undefined) return undecided('the case has no target state');
    if (output.state === undefined) return undecided('the output has no state');
    const ignore = strings(options['ignore']);
    return same(without(output.state, ignore), without(target, ignore))
      ? passed
      : failed(difference(output.state, target, ignore));
  },

  'tool-policy': ({ output, with: options }) => {
    if (output.trace === undefined) return undecided('the output has no trace');
    const calls = trustedCalls(output.trace);
    if (calls === null) return undecided('the hash chain of the trace does not hold');
    const matches = (pattern: unknown) => (call: { name: string; arguments: unknown }) =>
      own(pattern, 'name') === call.name &&
      Object.entries((own(pattern, 'arguments') as object | undefined) ?? {}).every(([key, value]) =>
        same(own(call.arguments, key), value),
      );
    const allow = options['allow'];
    const stranger = Array.isArray(allow) ? calls.find((call) => !allow.includes(call.name)) : undefined;
    if (stranger) return failed(`${stranger.name} was called and is not allowed`);
    for (const pattern of list(options['forbid'])) {
      const bad = calls.find(matches(pattern));
      if (bad) return failed(`${bad.name} ${clip(JSON.stringify(bad.arguments))} is forbidden`);
    }
    for (const pattern of list(options['require'])) {
      if (!calls.some(matches(pattern))) return failed(`${clip(JSON.stringify(pattern))} was not called`);
    }
    const most = options['maxCalls'];
    return typeof most === 'number' && calls.length > most
      ? failed(`${calls.length} calls, ${most} are allowed`)
      : passed;
  },

  budget: ({ output, with: options }) => {
    const { maxCharacters, maxCalls, maxRepeats, mustEnd } = options;
    if (typeof maxCharacters === 'number' && output.text.length > maxCharacters) {
      return failed(`${output.text.length} characters, ${maxCharacters} are allowed`);
    }
    if (typeof maxRepeats === 'number') {
      const repeats = longestRepeat(output.text);
      if (repeats > maxRepeats) return failed(`one word ${repeats} times in a row, ${maxRepeats} are allowed`);
    }
    if (typeof maxCalls !== 'number' && mustEnd !== true) return passed;
    if (output.trace === undefined) return undecided('the output has no trace');
    const calls = trustedCalls(output.trace);
    if (calls === null) return undecided('the hash chain of the trace does not hold');
    if (typeof maxCalls === 'number' && calls.length > maxCalls)
      return failed(`${calls.length} calls, ${maxCalls} are allowed`);
    const reason = endReason(output.trace);
    return mustEnd === true && reason !== 'done' ? failed(`the episode ended by ${reason ?? 'nothing'}`) : passed;
  },
};

/* Each alternative looks at a bounded number of characters, so that the time stays linear. */
// oxlint-disable no-control-regex
const bytePatterns: Readonly<Record<string, RegExp>> = {
  html: /<[/!]?[a-z]|<!--|&#|javascript:/i,
  ansi: /\u001b|\u009b/,
  control: /[\u0000-\u0008\u000b\u000c\u000e-\u001a\u001c-\u001f\u007f-\u009f]/,
  bidi: /[\u200b-\u200f\u202a-\u202e\u2060-\u2069]/,
  link: /https?:\/\/|\]\(/i,
};
// oxlint-enable no-control-regex

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : [];
}

function without(state: unknown, ignore: readonly string[]): unknown {
  if (!isObject(state) || ignore.length === 0) return state;
  return Object.fromEntries(Object.entries(state).filter(([key]) => !ignore.includes(key)));
}

function difference(state: unknown, target: unknown, ignore: readonly string[]): string {
  if (!isObject(state) || !isObject(target)) return 'the final state differs';
  const keys = [...new Set([...Object.keys(target), ...Object.keys(state)])].filter((key) => !ignore.includes(key));
  const key = keys.find((name) => !same(own(state, name), own(target, name))) ?? '';
  return clip(
    `${key} is ${JSON.stringify(own(state, key)) ?? 'missing'}, not ${JSON.stringify(own(target, key)) ?? 'missing'}`,
  );
}

function longestRepeat(text: string): number {
  let [longest, current, previous] = [0, 0, ''];
  for (const word of text.split(/\s+/)) {
    current = word !== '' && word === previous ? current + 1 : 1;
    previous = word;
    longest = Math.max(longest, current);
  }
  return longest;
}
