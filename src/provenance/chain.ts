import { digestOf } from '../kit/index.ts';

/** One thing that a promotion rests on. */
export interface ChainItem {
  readonly role: 'dataset' | 'base' | 'checkpoint' | 'run' | 'policy' | 'verdict';
  readonly name: string;
  /** `sha256:<hex>` */
  readonly digest: string;
}

/** Each link is the digest of the link before it together with its own item: the last one stands for all. */
export interface ChainLink extends ChainItem {
  readonly link: string;
}

export function makeChain(items: readonly ChainItem[]): ChainLink[] {
  const links: ChainLink[] = [];
  for (const { role, name, digest } of items) {
    links.push({ role, name, digest, link: digestOf({ previous: links.at(-1)?.link ?? null, role, name, digest }) });
  }
  return links;
}
