import type { TrainingRow } from '../contracts/index.ts';
import { canonicalJson, parseJsonObject } from '../kit/index.ts';

export interface RowFinding {
  readonly kind: 'duplicate' | 'label-conflict' | 'reversed-preference' | 'not-json';
  readonly ids: readonly string[];
  readonly message: string;
}

/**
 * Looks over rows without changing them. `duplicate`: same input and same answer. `label-conflict`: same input, another
 * answer. `reversed-preference`: what one row chooses another rejects. `not-json`: an answer that is no JSON object
 * where at least nine of ten are. Inputs are compared after folding case and white space.
 */
export function lintRows(rows: readonly TrainingRow[]): RowFinding[] {
  const findings: RowFinding[] = [];
  for (const group of groupBy(rows, inputKey)) {
    const answers = groupBy(group, (row) => answerOf(row).trim());
    for (const same of answers) {
      if (same.length > 1)
        findings.push({ kind: 'duplicate', ids: idsOf(same), message: 'same input and same answer' });
    }
    if (answers.length > 1 && group.every((row) => row.kind === 'messages')) {
      findings.push({
        kind: 'label-conflict',
        ids: idsOf(group),
        message: `same input, ${answers.length} different answers`,
      });
    }
    const chosen = new Map(group.flatMap((row) => (row.kind === 'preference' ? [[row.chosen, row.id] as const] : [])));
    for (const row of group) {
      const other = row.kind === 'preference' ? chosen.get(row.rejected) : undefined;
      if (other !== undefined)
        findings.push({
          kind: 'reversed-preference',
          ids: [row.id, other],
          message: 'one row rejects what the other chooses',
        });
    }
  }
  const answered = rows.filter((row) => row.kind === 'messages');
  const broken = answered.filter((row) => parseJsonObject(answerOf(row)) === null);
  if (broken.length > 0 && broken.length <= answered.length / 10) {
    findings.push({
      kind: 'not-json',
      ids: idsOf(broken),
      message: 'the answer is not a JSON object, unlike most others',
    });
  }
  return findings;
}

function inputKey(row: TrainingRow): string {
  if (row.kind === 'text') return `text ${fold(row.text)}`;
  const input = row.kind === 'messages' ? row.messages.slice(0, -1) : row.prompt;
  return canonicalJson([row.kind, input.map(({ role, content }) => [role, fold(content)])]);
}

/** What a row teaches: its last assistant message, its chosen and rejected answer, or its text. */
function answerOf(row: TrainingRow): string {
  if (row.kind === 'text') return fold(row.text);
  return row.kind === 'messages' ? (row.messages.at(-1)?.content ?? '') : canonicalJson([row.chosen, row.rejected]);
}

function fold(text: string): string {
  return text.toLowerCase().replace(/\s+/gu, ' ').trim();
}

function idsOf(rows: readonly TrainingRow[]): string[] {
  return rows.map(({ id }) => id);
}

function groupBy<T>(items: readonly T[], key: (item: T) => string): T[][] {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group === undefined) groups.set(key(item), [item]);
    else group.push(item);
  }
  return [...groups.values()];
}
