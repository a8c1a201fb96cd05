"""report.html: one file that shows a run, several runs, or a study, in any browser."""

from kdx.report.page import write_report_page as write_report_page
