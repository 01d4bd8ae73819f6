import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type * as addonModule from '../../../engines/native/addon.ts';
import { nativeErrors, toCupelError, unwrap } from '../../../engines/native/errors.ts';

const crates = join(import.meta.dirname, '../../../engines/native/crates');

describe('errors of the native engine', () => {
  it('declare every code that the Rust sources raise', () => {
    const raised = readdirSync(crates, { recursive: true, encoding: 'utf8' })
      .filter((name) => /src\/.*\.rs$/.test(name.replaceAll('\\', '/')))
      .flatMap((name) => readFileSync(join(crates, name), 'utf8').match(/CUPEL_NATIVE_[A-Z_]*[A-Z]/g) ?? []);
    expect(raised.length).toBeGreaterThan(20);
    // CUPEL_NATIVE_ISA is an environment variable.
    expect(
      [...new Set(raised)]
        .filter((code) => code !== 'CUPEL_NATIVE_ISA')
        .filter((code) => !Object.hasOwn(nativeErrors.definitions, code)),
    ).toEqual([]);
  });

  it('keep code, place and remedy of a fault; an unknown code becomes an internal error that names it', () => {
    expect(toCupelError({ code: 'CUPEL_NATIVE_TENSOR_SHAPE', message: 'm', place: 'p', remedy: 'r' })).toMatchObject({
      code: 'CUPEL_NATIVE_TENSOR_SHAPE',
      exit: 2,
      message: 'm',
      where: 'p',
      remedy: 'r',
    });
    expect(toCupelError({ code: 'CUPEL_NATIVE_NEW', message: 'm', place: null })).toMatchObject({
      code: 'CUPEL_NATIVE_INTERNAL',
      exit: 70,
      message: 'CUPEL_NATIVE_NEW: m',
    });
    expect(() =>
      unwrap(() => {
        throw new Error('plain');
      }),
    ).toThrowError(expect.objectContaining({ code: 'CUPEL_NATIVE_INTERNAL', message: 'plain' }));
  });

  it('say how to build the addon where it is missing', async () => {
    // The loaded addon is remembered; a fresh copy of the module has none.
    const copy: string = '../../../engines/native/addon.ts?fresh';
    const fresh = (await import(copy)) as typeof addonModule;
    expect(() => fresh.addon('/nowhere/cupel-native.node')).toThrowError(
      expect.objectContaining({
        code: 'CUPEL_NATIVE_ADDON_MISSING',
        exit: 2,
        where: '/nowhere/cupel-native.node',
        remedy: expect.stringContaining('npm run prepare'),
      }),
    );
    expect(() => fresh.addon(import.meta.filename)).toThrowError(
      expect.objectContaining({ code: 'CUPEL_NATIVE_ADDON_BROKEN' }),
    );
  });
});
