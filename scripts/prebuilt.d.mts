export interface PrebuiltPlatform {
  readonly os: string;
  readonly cpu: string;
  readonly libc?: string;
}
export declare const platforms: Readonly<Record<string, PrebuiltPlatform>>;
export declare function packageName(platform: string): string;
export declare function currentPlatform(of?: { os?: string; cpu?: string; libc?: string | null }): string | null;
export declare function libraryOfC(): 'glibc' | 'musl' | null;
export declare function packPrebuilt(options: {
  readonly root: string;
  readonly out: string;
  readonly platform: string;
  readonly addon: string;
}): string;
export declare function mainManifest(options: {
  readonly root: string;
  readonly out: string;
}): Record<string, unknown> & { readonly scripts: Record<string, string> };
export declare function installedPrebuilt(options: {
  readonly root: string;
  readonly platform?: string | null;
}): { name: string; version: string } | null;
