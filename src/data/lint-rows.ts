import type { TrainEvent, TrainingMessage, TrainingRow } from '../contracts/index.ts';
import { canonicalJson, digestOf, parseJsonObject } from '../kit/index.ts';
import { dataErrors } from './errors.ts';
import { type HeldOutInput, heldOutRows } from './held-out.ts';
import { nearDuplicates } from './near-duplicates.ts';
import type { RowFinding } from './row-finding.ts';
import { fold } from './row-texts.ts';

const codes = {
  duplicate: 'CUPEL_DATA_DUPLICATE_ROWS',
  'near-duplicate': 'CUPEL_DATA_NEAR_DUPLICATES',
  'label-conflict': 'CUPEL_DATA_LABEL_CONFLICT',
  'reversed-preference': 'CUPEL_DATA_REVERSED_PREFERENCE',
  'not-json': 'CUPEL_DATA_NOT_JSON',
  'held-out': 'CUPEL_DATA_HELD_OUT',
  'near-held-out': 'CUPEL_DATA_HELD_OUT',
} as const satisfies Record<RowFinding['kind'], keyof typeof dataErrors.definitions>;

/**
 * Looks over rows before they are trained on: a warning for each kind of finding.
 * @throws CUPEL_DATA_HELD_OUT where a row asks what a test case asks
 */
export function reviewRows(
  rows: readonly TrainingRow[],
  heldOut: readonly HeldOutInput[],
  sink: (event: Extract<TrainEvent, { readonly type: 'warning' }>) => void,
): void {
  const groups = groupBy(lintRows(rows, heldOut), ({ kind, severity }) => `${kind} ${severity}`);
  for (const group of groups) {
    const [first] = group as [RowFinding];
    const ids = [...new Set(group.flatMap((finding) => finding.ids))];
    const named = `${ids.slice(0, 5).join(', ')}${ids.length > 5 ? ` and ${ids.length - 5} more` : ''}`;
    const times = group.length === 1 ? '' : `${group.length} times, first: `;
    if (first.severity === 'error')
      throw dataErrors[codes[first.kind]]({ message: `${times}${first.message}`, where: `rows ${named}` });
    sink({ type: 'warning', code: codes[first.kind], message: `${times}${first.message} (rows ${named})` });
  }
}

/**
 * Looks over rows without changing them. `duplicate`: same input and same answer. `near-duplicate`: inputs that share
 * four fifths of their word 3-grams. `label-conflict`: same input, another answer, or the same answer both desirable and
 * not. `reversed-preference`: what one row chooses another rejects. `not-json`: an answer that is no JSON object where at
 * least nine of ten are. `held-out`: a row asks, in any of its turns, what a case of a suite asks, in the same words, or
 * nearly. Inputs are compared after folding case and white space.
 */
export function lintRows(rows: readonly TrainingRow[], heldOut: readonly HeldOutInput[] = []): RowFinding[] {
  const findings: RowFinding[] = [];
  const warn = (kind: RowFinding['kind'], ids: readonly string[], message: string): void => {
    findings.push({ kind, severity: 'warning', ids, message });
  };
  for (const group of groupBy(rows, inputKey)) {
    if (group.length === 1) {
      const [only] = group as [TrainingRow];
      if (only.kind === 'preference' && only.chosen === only.rejected)
        warn('reversed-preference', [only.id, only.id], 'one row rejects what the other chooses');
      continue;
    }
    const answers = groupBy(group, (row) => answerOf(row).trim());
    for (const same of answers) if (same.length > 1) warn('duplicate', idsOf(same), 'same input and same answer');
    if (answers.length > 1 && group[0]?.kind === 'messages')
      warn('label-conflict', idsOf(group), `same input, ${answers.length} different answers`);
    for (const judged of groupBy(group, (row) => (row.kind === 'labelled' ? row.answer.trim() : row.id))) {
      if (new Set(judged.map((row) => row.kind === 'labelled' && row.desirable)).size > 1)
        warn('label-conflict', idsOf(judged), 'the same answer is desirable and not desirable');
    }
    const chosen = new Map(group.flatMap((row) => (row.kind === 'preference' ? [[row.chosen, row.id] as const] : [])));
    for (const row of group) {
      const other = row.kind === 'preference' ? chosen.get(row.rejected) : undefined;
      if (other !== undefined) warn('reversed-preference', [row.id, other], 'one row rejects what the other chooses');
    }
  }
  const answered = rows.filter((row) => row.kind === 'messages' && row.messages.at(-1)?.toolCalls === undefined);
  const broken = answered.filter((row) => parseJsonObject(answerOf(row)) === null);
  if (broken.length > 0 && broken.length <= answered.length / 10)
    warn('not-json', idsOf(broken), 'the answer is not a JSON object, unlike most others');
  return [...findings, ...nearDuplicates(rows), ...heldOutRows(rows, heldOut)];
}

/** A digest, because the inputs of a large dataset would be held twice. */
function inputKey(row: TrainingRow): string {
  if (row.kind === 'text') return digestOf(['text', fold(row.text)]);
  const input = row.kind === 'messages' ? row.messages.slice(0, -1) : row.prompt;
  return digestOf([row.kind, input.map(messageKey), row.tools ?? []]);
}

function messageKey({ role, content, toolCalls = [] }: TrainingMessage): unknown[] {
  return [role, fold(content), toolCalls.map(({ name, arguments: values }) => [name, values])];
}

/** What a row teaches: its last assistant message, its chosen and rejected or its judged answer, or its text. */
function answerOf(row: TrainingRow): string {
  if (row.kind === 'text') return fold(row.text);
  if (row.kind === 'messages') {
    const last = row.messages.at(-1);
    return last?.toolCalls === undefined ? (last?.content ?? '') : canonicalJson([last.content, last.toolCalls]);
  }
  return canonicalJson(row.kind === 'labelled' ? [row.answer, row.desirable] : [row.chosen, row.rejected]);
}

function idsOf(rows: readonly TrainingRow[]): string[] {
  return rows.map(({ id }) => id);
}

function groupBy<T>(items: readonly T[], key: (item: T) => string): T[][] {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const name = key(item);
    const group = groups.get(name);
    if (group === undefined) groups.set(name, [item]);
    else group.push(item);
  }
  return [...groups.values()];
}
