import { sha256 } from '../../src/kit/index.ts';

/** A file name for a checkpoint's report: plain characters only, and still one name an id. */
export function reportFileName(stem: string, checkpointId: string, extension: string): string {
  const plain = checkpointId
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[.-]+/, '')
    .slice(0, 60);
  const safe =
    plain === checkpointId && plain !== '' ? plain : `${plain || 'checkpoint'}-${sha256(checkpointId).slice(0, 8)}`;
  return `${stem}-${safe}.${extension}`;
}
