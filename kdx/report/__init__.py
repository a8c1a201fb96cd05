"""report.html: one file that shows a run, or several, in any browser."""

from kdx.report.page import FILE as FILE
from kdx.report.page import write_page as write_page
from kdx.report.page import write_report_page as write_report_page
