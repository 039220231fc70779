/**
 * Planted bugs: the program's own modules with a line changed, to prove that a test would notice. The modules, of which no
 * two have one name, are copied to a temporary folder, changed, and imported from there; everything else they import stays
 * the original.
 */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';

export interface Edit {
  /** The file's name in the folder. */
  readonly file: string;
  /** Must stand there exactly once: a planted bug that no longer fits the code fails its test. */
  readonly replace: string;
  readonly by: string;
}

/** Imports `files[0]` (paths from the repository's root), with `edits` made in it and in the others. */
export async function plant<T>(files: readonly string[], edits: readonly Edit[]): Promise<T> {
  const target = mkdtempSync(join(tmpdir(), 'silverback-mutant-'));
  const copied = new Set(files.map((file) => resolve(file)));
  for (const file of files) {
    let text = readFileSync(file, 'utf8');
    for (const edit of edits) {
      if (edit.file !== basename(file)) continue;
      if (text.split(edit.replace).length !== 2) throw new Error(`${file}: not there exactly once: ${edit.replace}`);
      text = text.replace(edit.replace, () => edit.by);
    }
    text = text.replaceAll(/(from|import) '(\.[^']+)'/g, (_, word: string, path: string) => {
      const original = resolve(dirname(file), path);
      return `${word} '${copied.has(original) ? `./${basename(original)}` : original}'`;
    });
    // A bare package is not found from the temporary folder, so modules that import one are not to be copied.
    writeFileSync(join(target, basename(file)), text);
  }
  return (await import(/* @vite-ignore */ join(target, basename(files[0]!)))) as T;
}
