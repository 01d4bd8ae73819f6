import { checkDesirable } from './desirable.ts';
import type { Finding } from './finding.ts';
import type { CheckInput } from './input.ts';
import { checkLabels } from './labels.ts';
import { checkLengths } from './lengths.ts';
import { checkSettings } from './settings.ts';
import { checkTemplate } from './template.ts';

/**
 * Everything that can be said of a training before its first step, beside what `prepareExamples` refuses. Pure: looks at
 * rows, tokens and settings alone. Which trap each check covers stands in `trainingChecks`.
 */
export function checkTraining(input: CheckInput): readonly Finding[] {
  return [...checkPrepared(input), ...checkDesirable(input), ...checkSettings(input)];
}

/** The part of `checkTraining` that needs no recipe: for rows that another trainer computes with. */
export function checkPrepared(
  input: Pick<CheckInput, 'model' | 'rows' | 'examples' | 'objective' | 'recordedTemplate' | 'template'>,
): readonly Finding[] {
  return [...checkLabels(input), ...checkTemplate(input), ...checkLengths(input)];
}
