import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto';
import { link, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '../kit/index.ts';
import { provenanceErrors } from './errors.ts';

export interface SigningKey {
  readonly privateKey: KeyObject;
  /** SubjectPublicKeyInfo in PEM, as written beside the key. */
  readonly publicKeyPem: string;
}

/** What a locally made key is worth; said wherever its signatures are shown. */
export const keyNotice =
  'Signed with a key that was generated on the machine that ran the gate. It shows that nothing was changed since, to whoever got the public key by a way they trust. It proves no identity.';

/**
 * The ECDSA P-256 key of a project: `signing-key.pem` (readable by its owner alone) and `signing-key.pub.pem` in the
 * folder, made on first use. It proves no identity.
 * @throws CUPEL_PROVENANCE_KEY_INVALID, CUPEL_PROVENANCE_KEY_EXPOSED
 */
export async function ensureKey(directory: string): Promise<SigningKey> {
  const file = join(directory, 'signing-key.pem');
  const invalid = (message: string, cause?: unknown): Error =>
    provenanceErrors.CUPEL_PROVENANCE_KEY_INVALID({ message, where: file, cause });
  try {
    await mkdir(directory, { recursive: true });
    const mode = await stat(file).then(
      (found) => found.mode,
      () => null,
    );
    if (mode === null) await create(file);
    else if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
      throw provenanceErrors.CUPEL_PROVENANCE_KEY_EXPOSED({
        message: `the mode of the key file is ${(mode & 0o777).toString(8)}`,
        where: file,
      });
    }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).errno === undefined) throw cause;
    throw invalid(`the key could not be made: ${(cause as Error).message}`, cause);
  }
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(await readFile(file));
  } catch (cause) {
    throw invalid(`the key could not be read: ${(cause as Error).message}`, cause);
  }
  if (privateKey.asymmetricKeyType !== 'ec' || privateKey.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
    throw invalid(
      `the key is ${privateKey.asymmetricKeyType ?? 'unknown'} ${privateKey.asymmetricKeyDetails?.namedCurve ?? ''}`.trim(),
    );
  }
  const publicKeyPem = createPublicKey(privateKey).export({ type: 'spki', format: 'pem' }).toString();
  const publicFile = join(directory, 'signing-key.pub.pem');
  if ((await readFile(publicFile, 'utf8').catch(() => null)) !== publicKeyPem)
    await writeFileAtomic(publicFile, publicKeyPem);
  return { privateKey, publicKeyPem };
}

/** Links a whole file into place: of two processes one wins, and nobody sees half a key. */
async function create(file: string): Promise<void> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const temporary = `${file}.${randomBytes(6).toString('hex')}.tmp`;
  await writeFile(temporary, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600, flag: 'wx' });
  try {
    await link(temporary, file);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
  } finally {
    await rm(temporary, { force: true });
  }
}
