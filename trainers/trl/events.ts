import { trlErrors } from './errors.ts';

/** Log-probability of a row's labelled tokens by the trained weights. */
export interface Probe {
  readonly row: number;
  readonly logProbability: number;
  readonly tokens: number;
}

/** What a child process reports, a line of JSON each. */
export type ChildEvent =
  | {
      readonly event: 'hello';
      readonly worldSize: number;
      readonly versions: Readonly<Record<string, string | null>>;
      readonly python: string;
      readonly device: string;
    }
  | { readonly event: 'model'; readonly parameters: number; readonly trainableParameters: number }
  | {
      readonly event: 'step';
      readonly step: number;
      readonly steps: number;
      readonly loss: number;
      readonly metrics: Readonly<Record<string, number>>;
    }
  | { readonly event: 'checkpoint'; readonly step: number; readonly folder: string }
  | { readonly event: 'error'; readonly code: string; readonly message: string }
  | { readonly event: 'done'; readonly steps: number; readonly probe: readonly Probe[] };

type Check = (value: unknown) => boolean;
const text: Check = (value) => typeof value === 'string';
const number: Check = (value) => typeof value === 'number' && Number.isFinite(value);
const count: Check = (value) => number(value) && Number.isInteger(value) && (value as number) >= 0;
const object: Check = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const record =
  (check: Check): Check =>
  (value) =>
    object(value) && Object.values(value as object).every(check);

const fields: Readonly<Record<ChildEvent['event'], Readonly<Record<string, Check>>>> = {
  hello: {
    worldSize: count,
    versions: record((value) => value === null || text(value)),
    python: text,
    device: text,
  },
  model: { parameters: count, trainableParameters: count },
  step: { step: count, steps: count, loss: number, metrics: record(number) },
  checkpoint: { step: count, folder: text },
  error: { code: text, message: text },
  done: {
    steps: count,
    probe: (value) =>
      Array.isArray(value) &&
      value.every(
        (one: unknown) =>
          object(one) &&
          ['row', 'logProbability', 'tokens'].every((key) => number((one as Record<string, unknown>)[key])),
      ),
  },
};

/** Reads one line. What it does not name is refused: a child of another version is no child of ours. @throws CUPEL_TRL_EVENTS */
export function parseEvent(line: string, where: string): ChildEvent {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw trlErrors.CUPEL_TRL_EVENTS({ message: `not JSON: ${line.slice(0, 120)}`, where, cause });
  }
  const event = value as Record<string, unknown>;
  const known = object(value) && event['v'] === 1 && Object.hasOwn(fields, event['event'] as string);
  const wrong = known
    ? Object.entries(fields[event['event'] as ChildEvent['event']]).find(([name, check]) => !check(event[name]))?.[0]
    : 'event';
  if (wrong !== undefined) {
    throw trlErrors.CUPEL_TRL_EVENTS({ message: `field "${wrong}" of ${line.slice(0, 120)}`, where });
  }
  return event as unknown as ChildEvent;
}
