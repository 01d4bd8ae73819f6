import { type CupelError, retold } from '../kit/index.ts';
import { trainErrors } from './errors.ts';

/** Most other rows that a message names. */
const named = 5;

/** Rows that were refused: the first error, how many others there are, and the ids of the next. */
export class RowFaults {
  #first: { readonly id: string; readonly error: CupelError } | null = null;
  readonly #others: string[] = [];
  #count = 0;

  add(id: string, error: CupelError): void {
    this.#count++;
    if (this.#first === null) this.#first = { id, error };
    else if (this.#others.length < named) this.#others.push(id);
  }

  /** @throws the first error. One of an engine, which knows its template and no row, gets the row as its place. */
  raise(): void {
    if (this.#first === null) return;
    const { id, error } = this.#first;
    const own = error.code in trainErrors.definitions;
    const where = own ? error.where : `row ${id}${error.where === undefined ? '' : ` (${error.where})`}`;
    const rest = this.#count - 1;
    const others = this.#others.join(', ') + (rest > named ? ', …' : '');
    const message = rest === 0 ? error.message : `${error.message}; and ${rest} other rows are refused: ${others}`;
    throw rest === 0 && own ? error : retold(error, message, where);
  }
}
