/** The folders in which plugins live. A plugin's id is its path below that folder, without the extension. */
export type PluginKind = 'engine' | 'judge' | 'trainer' | 'validator' | 'report' | 'exporter';

/** What every plugin says of itself. Made by the `define*` functions of `kit`. */
export interface PluginHead<K extends PluginKind> {
  readonly kind: K;
  /** One line for `cupel list`. */
  readonly summary: string;
  /** Version of the plugin's behaviour: part of every cache key and evidence. Semver. */
  readonly version: string;
}
