import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Writes the smallest baseline that answers: one field, one rule. */
export async function writeCheckpoint(folder: string): Promise<void> {
  const rules = {
    name: 'urgency',
    form: 'rules',
    values: ['low', 'high'],
    rules: [{ cue: 'order', value: 1 }],
    otherwise: 0,
  };
  const file = {
    version: 1,
    trainer: 'keyword-rules',
    style: { item: ', ', colon: ': ' },
    fields: [rules],
    features: null,
    texts: [],
  };
  await writeFile(join(folder, 'classical.json'), JSON.stringify(file));
}
