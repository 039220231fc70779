/** `npm start`, from a bare clone on: coordinator/local/main.ts as compiled. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT } from './build.js';
import { makeReady } from './ready.js';

makeReady((line) => console.log(line));
await import(pathToFileURL(join(ROOT, 'dist/coordinator/local/main.js')).href);
