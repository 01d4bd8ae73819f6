import { availableParallelism } from 'node:os';
import { isAbsolute } from 'node:path';
import type { OpenOptions } from '../../src/contracts/index.ts';
import type { OpenInput } from './addon.ts';
import { nativeErrors } from './errors.ts';

const weightTypes = ['as-stored', 'f32', 'q8_0', 'w8a8', 'bf16'];
const cacheTypes = ['f32', 'f16', 'q8_0'];

/** Options as the addon takes them. @throws CUPEL_NATIVE_REQUEST_INVALID that names the option */
export function checkedOptions(options: OpenOptions): OpenInput {
  const { weights, kvCache, kvCacheBytes, stepTokens, adapters } = options;
  return {
    threads: wholeNumber('threads', options.threads ?? Math.min(availableParallelism(), 4096), 4096),
    maxBatch: wholeNumber('maxBatch', options.maxBatch ?? 32, 4096),
    ...(weights === undefined ? {} : { weights: oneOf('weights', weights, weightTypes) }),
    ...(kvCache === undefined ? {} : { kvCache: oneOf('kvCache', kvCache, cacheTypes) }),
    ...(kvCacheBytes === undefined ? {} : { kvCacheBytes: wholeNumber('kvCacheBytes', kvCacheBytes, 2 ** 50) }),
    ...(stepTokens === undefined ? {} : { stepTokens: wholeNumber('stepTokens', stepTokens, 2 ** 20) }),
    ...(adapters === undefined
      ? {}
      : { adapters: Object.entries(adapters).map(([name, path]) => ({ name, path: absolute(name, path) })) }),
  };
}

function wholeNumber(name: string, value: number, most: number): number {
  if (Number.isSafeInteger(value) && value >= 1 && value <= most) return value;
  throw nativeErrors.CUPEL_NATIVE_REQUEST_INVALID({
    message: `${name} is ${value}; a whole number from 1 to ${most} was expected`,
    where: name,
  });
}

function oneOf(name: string, value: string, known: readonly string[]): string {
  if (known.includes(value)) return value;
  throw nativeErrors.CUPEL_NATIVE_REQUEST_INVALID({
    message: `${name} is ${JSON.stringify(value)}; ${known.join(', ')} are known`,
    where: name,
  });
}

function absolute(name: string, path: string): string {
  if (typeof path === 'string' && isAbsolute(path)) return path;
  throw nativeErrors.CUPEL_NATIVE_REQUEST_INVALID({
    message: `the path of adapter ${JSON.stringify(name)} is ${JSON.stringify(path)}; an absolute one was expected`,
    where: `adapters.${name}`,
  });
}
