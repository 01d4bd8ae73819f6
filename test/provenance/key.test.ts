import { generateKeyPairSync } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  ensureKey,
  makeStatement,
  signEnvelope,
  signStatement,
  verifyBundle,
  verifyEnvelope,
} from '../../src/provenance/index.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cupel-key-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe('the signing key', () => {
  it('is made once, readable by its owner alone, also when several ask at once', async () => {
    const keys = await Promise.all([1, 2, 3].map(() => ensureKey(join(directory, 'keys'))));
    keys.push(await ensureKey(join(directory, 'keys')));
    expect(new Set(keys.map(({ publicKeyPem }) => publicKeyPem)).size).toBe(1);
    expect((await stat(join(directory, 'keys', 'signing-key.pem'))).mode & 0o777).toBe(0o600);
    expect((await readdir(join(directory, 'keys'))).sort()).toEqual(['signing-key.pem', 'signing-key.pub.pem']);
    expect(await readFile(join(directory, 'keys', 'signing-key.pub.pem'), 'utf8')).toBe(keys[0]?.publicKeyPem);
  });

  it('is refused when others can read it, when it is not a key, and on another curve', async () => {
    await ensureKey(directory);
    const file = join(directory, 'signing-key.pem');
    await chmod(file, 0o644);
    await expect(ensureKey(directory)).rejects.toMatchObject({
      code: 'CUPEL_PROVENANCE_KEY_EXPOSED',
      message: 'the mode of the key file is 644',
      where: file,
    });
    await chmod(file, 0o600);
    await writeFile(file, 'no key');
    await expect(ensureKey(directory)).rejects.toMatchObject({ code: 'CUPEL_PROVENANCE_KEY_INVALID' });
    await writeFile(
      file,
      generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey.export({ type: 'pkcs8', format: 'pem' }),
    );
    await expect(ensureKey(directory)).rejects.toMatchObject({
      code: 'CUPEL_PROVENANCE_KEY_INVALID',
      message: 'the key is ec secp384r1',
    });
    await writeFile(join(directory, 'taken'), '');
    await expect(ensureKey(join(directory, 'taken'))).rejects.toMatchObject({
      code: 'CUPEL_PROVENANCE_KEY_INVALID',
      exit: 2,
    });
  });
});

describe('an envelope', () => {
  it('holds for its payload, type and key, and for no other', async () => {
    const [key, other] = [await ensureKey(join(directory, 'a')), await ensureKey(join(directory, 'b'))];
    const envelope = signEnvelope('text/plain', Buffer.from('hello'), key);
    expect(verifyEnvelope(envelope, key.publicKeyPem)).toMatchObject({ ok: true, payload: Buffer.from('hello') });
    for (const [changed, pem] of [
      [{ ...envelope, payload: Buffer.from('hullo').toString('base64') }, key.publicKeyPem],
      [{ ...envelope, payloadType: 'text/html' }, key.publicKeyPem],
      [envelope, other.publicKeyPem],
      [envelope, 'no key'],
      [{ ...envelope, signatures: [] }, key.publicKeyPem],
      [{ ...envelope, signatures: [...envelope.signatures, ...envelope.signatures] }, key.publicKeyPem],
      [{ ...envelope, payload: `${envelope.payload}\n` }, key.publicKeyPem],
      [null, key.publicKeyPem],
      [{ ...envelope, signatures: [null] }, key.publicKeyPem],
    ] as const) {
      expect(verifyEnvelope(changed, pem).ok).toBe(false);
    }
  });

  it('in a bundle names its key by the digest of the PEM file, and takes whatever is thrown at it', async () => {
    const key = await ensureKey(directory);
    const bundle = signStatement(makeStatement('urn:x', [{ name: 'a', digest: { sha256: 'b' } }], { c: 1 }), key);
    expect(verifyBundle(JSON.stringify(bundle), key.publicKeyPem)).toMatchObject({
      ok: true,
      statement: { predicate: { c: 1 } },
    });
    for (const text of [
      '',
      'null',
      '[]',
      '{}',
      '{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":null}',
      JSON.stringify({ ...bundle, dsseEnvelope: 3 }),
    ]) {
      expect(verifyBundle(text, key.publicKeyPem).ok).toBe(false);
    }
    const notStatement = {
      ...bundle,
      dsseEnvelope: signEnvelope('application/vnd.in-toto+json', Buffer.from('{"subject":[null]}'), key),
    };
    expect(verifyBundle(JSON.stringify(notStatement), key.publicKeyPem)).toEqual({
      ok: false,
      reason: 'the payload is not an in-toto statement',
    });
  });
});
