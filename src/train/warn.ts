import type { TrainEvent } from '../contracts/index.ts';
import type { trainErrors } from './errors.ts';

/** Tells something that does not stop a training, by a code that the table of errors explains. */
export function warn(
  sink: (event: TrainEvent) => void,
  code: keyof typeof trainErrors.definitions,
  message: string,
): void {
  sink({ type: 'warning', code, message });
}
