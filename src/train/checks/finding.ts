import type { TrainEvent } from '../../contracts/index.ts';
import { checkErrors } from './errors.ts';

/** Something that a check has to say. Errors stop the training before its first step. */
export interface Finding {
  readonly code: keyof typeof checkErrors.definitions;
  readonly severity: 'error' | 'warning';
  /** What was found, with the values seen. */
  readonly message: string;
  /** `row <id>`, or the field of the recipe. */
  readonly where: string;
}

/** Hands warnings to the sink. @throws the first error, with the count of the others. */
export function raiseFindings(findings: readonly Finding[], sink: (event: TrainEvent) => void): void {
  for (const { code, severity, message, where } of findings)
    if (severity === 'warning') sink({ type: 'warning', code, message: `${message} (${where})` });
  const [first, ...others] = findings.filter(({ severity }) => severity === 'error');
  if (first === undefined) return;
  throw checkErrors[first.code]({
    message: others.length === 0 ? first.message : `${first.message}; and ${others.length} other errors`,
    where: first.where,
  });
}

/** One finding for many rows: the first few ids are named. */
export function rowList(ids: readonly string[]): string {
  return ids.length === 1
    ? `row ${ids[0] ?? ''}`
    : `rows ${ids.slice(0, 5).join(', ')}${ids.length > 5 ? ` and ${ids.length - 5} more` : ''}`;
}
