import type {
  Checkpoint,
  CompareOptions,
  ComparedModel,
  Comparison,
  QuantizeReport,
  QuantizeTarget,
} from '../../src/contracts/index.ts';
import { addon, settle } from './addon.ts';
import { nativeErrors, unwrap } from './errors.ts';
import { checkedOptions } from './options.ts';

/**
 * Writes a checkpoint as a GGUF file, or with type `w8a8` as a folder.
 * @throws CUPEL_NATIVE_REQUEST_INVALID for an unknown type, and every CUPEL_NATIVE_* error of a bad checkpoint
 */
export async function quantize(checkpoint: Checkpoint, target: QuantizeTarget): Promise<QuantizeReport> {
  const { threads } = checkedOptions(target.threads === undefined ? {} : { threads: target.threads });
  const pre = target.preTokenizer === undefined ? {} : { pre: target.preTokenizer };
  const { written } = await settle((callback) =>
    unwrap(() =>
      addon().quantize({ source: checkpoint.path, target: target.path, kind: target.type, ...pre, threads }, callback),
    ),
  );
  const { bytes = 0, parameters = 0, types = [] } = written ?? {};
  return {
    bytes,
    parameters,
    types: types.map(({ kind, tensors, relativeError }) => ({ type: kind.toLowerCase(), tensors, relativeError })),
  };
}

/**
 * What models make of a text: one entry for the reference, then one a candidate.
 * @throws CUPEL_NATIVE_REQUEST_INVALID where vocabularies differ or the text is too short
 */
export async function compare(options: CompareOptions): Promise<readonly Comparison[]> {
  const { reference, candidates, text, window, threads, signal } = options;
  if (!Number.isSafeInteger(window) || window < 2 || window > 2 ** 20) {
    throw nativeErrors.CUPEL_NATIVE_REQUEST_INVALID({
      message: `window is ${window}; a whole number from 2 to ${2 ** 20} was expected`,
      where: 'window',
    });
  }
  signal?.throwIfAborted();
  const cancellation = new (addon().Cancellation)();
  const abort = (): void => cancellation.cancel();
  signal?.addEventListener('abort', abort, { once: true });
  const opened = ({ path, weights, kvCache }: ComparedModel) => ({
    path,
    options: checkedOptions({
      maxBatch: 1,
      ...(threads === undefined ? {} : { threads }),
      ...(weights === undefined ? {} : { weights }),
      ...(kvCache === undefined ? {} : { kvCache }),
    }),
  });
  const models = [reference, ...candidates].map(opened);
  try {
    const reply = await settle(
      (callback) => unwrap(() => addon().compare(models, text, window, cancellation, callback)),
      (share) => options.onProgress?.(share),
    );
    return reply.comparisons ?? [];
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}
