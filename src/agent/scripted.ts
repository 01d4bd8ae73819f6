import type { Generate } from '../contracts/index.ts';

/**
 * Answers turn by turn from scripts instead of a model: line n of a script is turn n, afterwards nothing is said.
 * For sample outputs of episodes and fixed behaviours.
 * @param scripts case id to script
 */
export function scripted(scripts: ReadonlyMap<string, string>): Generate {
  return async function* (requests) {
    for (const { id } of requests) {
      const at = id.lastIndexOf('#');
      const text = scripts.get(id.slice(0, at))?.split('\n')[Number(id.slice(at + 1)) - 1] ?? '';
      yield await Promise.resolve({
        id,
        text,
        finish: 'stop' as const,
        usage: { promptTokens: 0, cachedTokens: 0, generatedTokens: 0 },
      });
    }
  };
}
