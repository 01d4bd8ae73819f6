import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { createHash } from 'node:crypto';
import { digestEverything, findDifference, isBelow } from './folder.ts';
import type { SigningKey } from './key.ts';
import { makeStatement, signStatement, verifyBundle, type Bundle } from './statement.ts';

/** OpenSSF Model Signing v1.0, as the model-signing tool 1.1.1 writes it. */
const predicateType = 'https://model_signing/signature/v1.0';
const gitPaths = ['.git', '.gitattributes', '.github', '.gitignore'];

interface ModelPredicate {
  readonly resources: readonly { readonly name: string; readonly digest: string; readonly algorithm: 'sha256' }[];
  readonly serialization: {
    readonly method: 'files';
    readonly hash_type: 'sha256';
    readonly allow_symlinks: boolean;
    readonly ignore_paths: readonly string[];
  };
}

/** Signs all files of a model folder but git's own; verifiable with `model_signing verify key`. */
export async function signModel(folder: string, key: SigningKey): Promise<Bundle> {
  const files = (await digestEverything(folder)).filter(({ path }) => !isBelow(path, gitPaths));
  const resources = files.map(({ path, sha256 }) => ({ name: path, digest: sha256, algorithm: 'sha256' as const }));
  const predicate: ModelPredicate = {
    resources,
    serialization: { method: 'files', hash_type: 'sha256', allow_symlinks: false, ignore_paths: gitPaths },
  };
  return signStatement(
    makeStatement(predicateType, [{ name: basename(folder), digest: { sha256: rootDigest(resources) } }], predicate),
    key,
  );
}

/**
 * Verifies a model folder against its signature: the signature by the key, the root digest over the resources, and
 * every file, none missing and none added. Never throws: whatever is wrong is the reason.
 */
export async function verifyModel(
  folder: string,
  bundleFile: string,
  publicKeyPem: string,
): Promise<{ readonly ok: boolean; readonly reason: string }> {
  const no = (reason: string): { ok: false; reason: string } => ({ ok: false, reason });
  const text = await readFile(bundleFile, 'utf8').catch(() => null);
  if (text === null) return no('the signature could not be read');
  const result = verifyBundle(text, publicKeyPem);
  if (!result.ok) return no(result.reason);
  const { statement } = result;
  if (statement.predicateType !== predicateType) return no(`the statement is of type ${statement.predicateType}`);
  const predicate = statement.predicate as Partial<ModelPredicate>;
  if (!isSupported(predicate))
    return no('the statement is of a form that is not supported: only whole files by sha256, without links');
  const [subject] = statement.subject;
  if (subject === undefined || statement.subject.length !== 1)
    return no(`the statement has ${statement.subject.length} subjects, not one`);
  if (subject.digest.sha256 !== rootDigest(predicate.resources))
    return no('the root digest does not fit the resources');
  const expected = new Map(predicate.resources.map(({ name, digest }) => [name, digest]));
  if (expected.size !== predicate.resources.length) return no('a file is named twice');
  try {
    const difference = await findDifference(folder, expected, predicate.serialization.ignore_paths);
    return difference === null ? { ok: true, reason: `${expected.size} files hold` } : no(difference);
  } catch (cause) {
    return no(`the folder could not be read: ${(cause as Error).message}`);
  }
}

/** SHA-256 over the raw digests of the files, in their order. */
function rootDigest(resources: ModelPredicate['resources']): string {
  const hash = createHash('sha256');
  for (const { digest } of resources) hash.update(Buffer.from(digest, 'hex'));
  return hash.digest('hex');
}

function isSupported(predicate: Partial<ModelPredicate>): predicate is ModelPredicate {
  const { resources, serialization } = predicate;
  return (
    Array.isArray(resources) &&
    resources.every((item: unknown) => {
      const { name, digest, algorithm } = (item ?? {}) as Record<string, unknown>;
      return (
        typeof name === 'string' &&
        algorithm === 'sha256' &&
        typeof digest === 'string' &&
        /^[0-9a-f]{64}$/.test(digest)
      );
    }) &&
    serialization?.method === 'files' &&
    serialization.hash_type === 'sha256' &&
    !serialization.allow_symlinks &&
    Array.isArray(serialization.ignore_paths) &&
    serialization.ignore_paths.every((path: unknown) => typeof path === 'string')
  );
}
