import type { TokenSequence } from '../sequence.ts';
import { type Finding, rowList } from './finding.ts';
import type { CheckInput } from './input.ts';

/**
 * Looks over what was prepared once more, by the tokens alone: every answer that is trained ends with the end of turn,
 * which is learned, and no label stands on the first token. Cut documents may end without it.
 */
export function checkLabels({
  model,
  examples,
  objective,
}: Pick<CheckInput, 'model' | 'examples' | 'objective'>): Finding[] {
  const wrong = examples.filter((example) =>
    example.sequences.some((sequence, index) =>
      isWrong(
        sequence,
        model.endOfTurn,
        objective.promptLabels === true && index === 0,
        example.cutTokens !== undefined,
      ),
    ),
  );
  if (wrong.length === 0) return [];
  return [
    {
      code: 'CUPEL_TRAIN_WRONG_LABELS',
      severity: 'error',
      message: `${wrong.length} rows have a labelled first token, or labels that do not end with token ${model.endOfTurn} (end of turn)`,
      where: rowList(wrong.map(({ id }) => id)),
    },
  ];
}

function isWrong(sequence: TokenSequence, endOfTurn: number, promptLabels: boolean, cut: boolean): boolean {
  const { tokens, weights, promptLength } = sequence;
  if ((weights[0] ?? 0) !== 0) return true;
  const start = promptLabels ? promptLength : 0;
  for (let position = Math.max(1, start); position < weights.length; position++) {
    const ends = (weights[position] ?? 0) > 0 && (weights[position + 1] ?? 0) === 0;
    if (ends && tokens[position] !== endOfTurn && !(cut && position === weights.length - 1)) return true;
  }
  return false;
}
