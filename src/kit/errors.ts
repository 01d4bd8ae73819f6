/** Exit codes of the command line (DESIGN: same everywhere). */
export type ExitCode = 1 | 2 | 3 | 4 | 70 | 130;

/** What a code means; the table in docs/errors.md is made from these. */
export interface ErrorDefinition {
  readonly exit: ExitCode;
  /** What happened, in general. */
  readonly what: string;
  /** How to mend it, in general. */
  readonly mend: string;
}

export interface ErrorDetail {
  /** What happened, with the value seen. */
  readonly message: string;
  /** file:line or path.in.config. */
  readonly where?: string;
  /** How to mend it, here; default: the definition's `mend`. */
  readonly remedy?: string;
  readonly cause?: unknown;
}

/** Marks coded errors across two installed copies of this package. */
const marker = Symbol.for('cupel.error');

/** An error with a stable code, a place and a remedy. Made by `defineErrors`, never by hand. */
export class CupelError extends Error {
  override readonly name = 'CupelError';
  readonly [marker] = true;
  readonly code: string;
  readonly exit: ExitCode;
  readonly where: string | undefined;
  readonly remedy: string;

  constructor(code: string, definition: ErrorDefinition, detail: ErrorDetail) {
    super(detail.message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.code = code;
    this.exit = definition.exit;
    this.where = detail.where;
    this.remedy = detail.remedy ?? definition.mend;
  }
}

export function isCupelError(error: unknown): error is CupelError {
  return typeof error === 'object' && error !== null && marker in error;
}

/** The same error, told with another message and place; its code, exit and remedy stay. */
export function retold(error: CupelError, message: string, where: string | undefined = error.where): CupelError {
  const { code, exit, remedy, cause } = error;
  const detail = { message, ...(where === undefined ? {} : { where }), ...(cause === undefined ? {} : { cause }) };
  return new CupelError(code, { exit, what: message, mend: remedy }, detail);
}

/** Message, place, remedy and code as a person reads them. */
export function formatError(error: CupelError): string {
  const where = error.where === undefined ? '' : `\n  at: ${error.where}`;
  return `${error.code}: ${error.message}${where}\n  mend: ${error.remedy}`;
}

type Factories<T> = { readonly [Code in keyof T]: (detail: ErrorDetail) => CupelError };

/**
 * Declares the coded errors of a room, in its `errors.ts`. Codes are `CUPEL_<ROOM>_<WHAT>` and never change meaning.
 * @returns one factory a code, and the definitions under `definitions`.
 */
export function defineErrors<const T extends Readonly<Record<`CUPEL_${string}`, ErrorDefinition>>>(
  definitions: T,
): Factories<T> & { readonly definitions: T } {
  const factories = Object.fromEntries(
    Object.entries(definitions).map(([code, definition]) => [
      code,
      (detail: ErrorDetail) => new CupelError(code, definition, detail),
    ]),
  );
  return { ...(factories as Factories<T>), definitions };
}
