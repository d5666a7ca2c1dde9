"""The directive `language-table`: every language that captions can be in, with its names, from the package's list."""

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from modeling_atri.languages_atri import ATRI_LANGUAGES, LANGUAGES


class LanguageTable(SphinxDirective):
    """`{language-table}` lists all languages, `{language-table} atri` those of the paper."""

    optional_arguments = 1

    def run(self):
        codes = ATRI_LANGUAGES if self.arguments else LANGUAGES
        lines = ["| code | ISO 639-1 | ISO 639-3 | name |", "|---|---|---|---|"]
        for language in (LANGUAGES[code] for code in codes):
            short = f"`{language.iso_639_1}`" if language.iso_639_1 else ""
            lines.append(f"| `{language.code}` | {short} | `{language.iso_639_3}` | {language.name} |")
        return self.parse_text_to_nodes(StringList(lines, "languages"))


def setup(app):
    app.add_directive("language-table", LanguageTable)
    return {"parallel_read_safe": True}
