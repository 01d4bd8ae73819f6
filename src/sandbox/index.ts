import { sandboxErrors } from './errors.ts';

export { sandboxErrors };

/**
 * The only answer to a request to run model-written code: without isolation it would run with the user's rights.
 * @param asker who asked, e.g. a validator id; @param where suite file and case.
 * @throws CUPEL_SANDBOX_REFUSED always.
 */
export function refuseModelCode(asker: string, where: string): never {
  throw sandboxErrors.CUPEL_SANDBOX_REFUSED({ message: `${asker} asked to run code written by a model`, where });
}
