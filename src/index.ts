/** What authors of plugins import: the contracts, and the kit with `defineValidator` and its kin. */
export type * from './contracts/index.ts';
export * from './kit/index.ts';
