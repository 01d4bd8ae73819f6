export declare function cargoMissing(platform?: string | null): string;
export declare function libraryName(platform: NodeJS.Platform): string;
export declare function isStale(source: string, target: string): boolean;
export declare function place(source: string, target: string): void;
export declare function buildNative(options: {
  readonly root: string;
  readonly platform?: NodeJS.Platform;
  readonly cargo?: string;
  readonly environment?: NodeJS.ProcessEnv;
}): { status: number; placed: string[]; message?: string };
