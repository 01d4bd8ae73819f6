import { cp, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeForSigning, ensureKey, signModel, verifyBundle, verifyModel } from '../../src/provenance/index.ts';

const reference = fileURLToPath(new URL('../../fixtures/reference/provenance/', import.meta.url));
const models = join(reference, 'model-signing');

interface Expected {
  readonly case: string;
  readonly subject: readonly unknown[];
  readonly resource_order: readonly string[];
  readonly digests: Readonly<Record<string, string>>;
  readonly verify: Readonly<Record<string, number>>;
}
const expected = JSON.parse(await readFile(join(models, 'expected.json'), 'utf8')) as Expected[];

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cupel-provenance-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function copyOf(name: string): Promise<string> {
  const folder = join(directory, name, 'model');
  await cp(join(models, name, 'model'), folder, { recursive: true });
  if (name === 'hidden') await rename(join(folder, '_gitattributes'), join(folder, '.gitattributes'));
  return folder;
}
const key = (name: string): Promise<string> => readFile(join(models, name), 'utf8');

describe('the pre-authentication encoding', () => {
  it('equals that of securesystemslib in every byte', async () => {
    const vectors = JSON.parse(await readFile(join(reference, 'dsse-pae.json'), 'utf8')) as {
      payloadType: string;
      payload_b64: string;
      pae_b64: string;
    }[];
    expect(vectors.length).toBe(3);
    for (const { payloadType, payload_b64, pae_b64 } of vectors)
      expect(encodeForSigning(payloadType, Buffer.from(payload_b64, 'base64')).toString('base64')).toBe(pae_b64);
  });
});

describe.each(expected)('the signed model $case', (model) => {
  it('gets the verdicts of model_signing', async () => {
    const folder = await copyOf(model.case);
    expect(Object.keys(model.verify)).toHaveLength(4);
    for (const [name, exit] of Object.entries(model.verify)) {
      const [signature = '', pem = 'pub.pem'] = name.split('+');
      const { ok } = await verifyModel(folder, join(models, model.case, signature), await key(pem));
      expect(`${name}: ${ok ? 0 : 1}`).toBe(`${name}: ${exit}`);
    }
  });

  it('gets the same subject, order and digests when it is signed here', async () => {
    const own = await ensureKey(directory);
    const bundle = await signModel(await copyOf(model.case), own);
    const result = verifyBundle(JSON.stringify(bundle), own.publicKeyPem);
    expect(result.ok && result.statement.subject).toEqual(model.subject);
    const { resources } = (result.ok ? result.statement.predicate : {}) as {
      resources: { name: string; digest: string }[];
    };
    expect(resources.map(({ name }) => name)).toEqual(model.resource_order);
    expect(Object.fromEntries(resources.map(({ name, digest }) => [name, digest]))).toEqual(model.digests);
    expect(bundle.dsseEnvelope.signatures[0]?.keyid).toBe('');
  });

  it('no longer holds when a file is changed, added, removed or made a link', async () => {
    const pem = await key('pub.pem');
    const check = async (folder: string): Promise<string> =>
      (await verifyModel(folder, join(models, model.case, 'model.sig'), pem)).reason;
    const [name = ''] = model.resource_order;
    const folder = await copyOf(model.case);
    const bytes = await readFile(join(folder, name));
    await writeFile(join(folder, name), Buffer.concat([bytes, Buffer.from('x')]));
    expect(await check(folder)).toBe(`${name} has changed`);
    await rm(join(folder, name));
    expect(await check(folder)).toBe(`${name} is missing`);
    await writeFile(join(directory, 'elsewhere'), bytes);
    await symlink(join(directory, 'elsewhere'), join(folder, name));
    expect(await check(folder)).toBe(`${name} is not a plain file`);
    await rm(join(folder, name));
    await writeFile(join(folder, name), bytes);
    await writeFile(join(folder, 'added'), '');
    expect(await check(folder)).toBe('added was added');
  });
});
