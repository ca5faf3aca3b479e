"""The frame and look of every HTML page of ours: one file that loads nothing, read on a phone too.

What stands on a page belongs to whoever shows it, escaped there.
"""

from __future__ import annotations

from html import escape

_STYLE = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{margin:0;background:#f4f5f7;color:#1c2733;
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:60rem;margin:0 auto;padding:1.25rem 1rem 4rem}
header h1{font-size:1.75rem;line-height:1.2;margin:.5rem 0 .25rem}
header p{margin:.25rem 0;color:#4a5766}
h2{font-size:1.35rem;margin:2.5rem 0 .25rem;padding-top:.75rem;border-top:3px solid #0b6b57}
h3{font-size:1.1rem;margin:1.75rem 0 .15rem}
h4{font-size:.9rem;margin:1.25rem 0 .5rem;color:#4a5766;text-align:center;font-weight:600}
.intro{margin:0 0 .75rem;color:#4a5766}
.empty{margin:0;color:#6a7683;font-style:italic}
nav{background:#fff;border:1px solid #d9dee4;border-radius:.5rem;padding:.75rem 1rem;margin:1rem 0}
nav strong{display:block;margin-top:.5rem}
nav ul{margin:.1rem 0;padding:0;list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1.1rem}
a{color:#0b5c4b}
.card{background:#fff;border:1px solid #d9dee4;border-radius:.5rem;padding:.7rem 1rem;
margin:0 0 .6rem;break-inside:avoid}
dl{margin:0;display:grid;grid-template-columns:minmax(9rem,14rem) 1fr;gap:.15rem 1rem}
dt{color:#4a5766;font-size:.92rem}
dd{margin:0;overflow-wrap:anywhere;white-space:pre-wrap}
pre{margin:.4rem 0 0;font:.82rem/1.45 ui-monospace,Consolas,monospace;white-space:pre-wrap;
overflow-wrap:anywhere}
.msg{max-width:85%;width:fit-content;border-radius:.6rem;padding:.5rem .8rem;margin:0 0 .5rem;
background:#fff;border:1px solid #d9dee4;break-inside:avoid}
.mine{margin-left:auto;background:#e3f4ee;border-color:#b9dccf}
.msg p{margin:0;overflow-wrap:anywhere;white-space:pre-wrap}
.msg .gone{color:#6a7683;font-style:italic}
.msg small{display:block;color:#4a5766;font-size:.8rem}
.notes{margin:.4rem 0;padding-left:1.2rem}
.notes li{margin:.2rem 0}
table{border-collapse:collapse;width:100%;background:#fff;border:1px solid #d9dee4;
border-radius:.5rem}
th,td{text-align:left;vertical-align:top;padding:.5rem .75rem;border-top:1px solid #e6eaee;
overflow-wrap:anywhere}
th{font-size:.92rem;color:#4a5766}
td.n{text-align:right;white-space:nowrap}
footer{margin-top:3rem;color:#4a5766;font-size:.9rem}
@media(max-width:34rem){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.4rem}
.msg{max-width:95%}th,td{padding:.45rem .5rem}}
@media print{body{background:#fff;font-size:11pt}main{max-width:none;padding:0}nav{display:none}
.card,.msg,table{border-color:#999}h2,h3,h4{break-after:avoid}a{color:inherit;text-decoration:none}}
@page{margin:18mm 15mm}
"""


def page_start(title: str, style: str = "") -> str:
    """The head of a page of ours; nothing but its own style can be loaded or run.

    Args:
        title: Of the browser's tab.
        style: What this page adds to the style of all.
    """
    return (
        '<!doctype html>\n<html lang="pt-BR">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="referrer" content="no-referrer">\n<meta name="robots" content="noindex">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n<main>\n"
    )


def page_end() -> str:
    """What closes a page that `page_start` began."""
    return "</main>\n</body>\n</html>\n"
